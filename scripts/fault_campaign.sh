#!/usr/bin/env bash
# Injects faults into real runs: more than 20 trials and 100 kills at random moments over three families of tasks, and
# every other row of the scorecard. Writes results/reference/faults; 13 to 23 minutes on two cores.
set -euo pipefail
extras=experiments,dev
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m pytest -n 2 -m scorecard --campaign --scorecard results/reference/faults "$@"
