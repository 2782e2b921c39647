#!/usr/bin/env bash
# Runs every cell and seed of an experiment, at the learning rates of its profile, one run a core. Finished runs are
# skipped, interrupted ones resume. bash scripts/experiment.sh conv_gain profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment="${1:?name an experiment of configs/experiment}" hydra/launcher=joblib "${@:2}"
