#!/usr/bin/env bash
# The runs of experiment recurrent_gain: every cell and seed of configs/experiment/recurrent_gain.yaml,
# at the learning rates in configs/tuned. bash scripts/recurrent_gain.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=recurrent_gain hydra/launcher=joblib "$@"
