#!/usr/bin/env bash
# Injects faults into real runs: more than 20 trials and 100 kills at random moments over three families of tasks, a
# thousand damaged folders and command lines, many runs at once, and every other row of the scorecard. Writes
# results/reference/faults; about half an hour on two cores.
set -euo pipefail
extras=experiments,dev
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

export LAYERNORM_EXAMPLES="${LAYERNORM_EXAMPLES:-1000}"
python -m pytest -n 2 -m scorecard --campaign --scorecard=results/reference/faults "$@"
