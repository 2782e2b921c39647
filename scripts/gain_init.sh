#!/usr/bin/env bash
# The runs of experiment gain_init: every cell and seed of configs/experiment/gain_init.yaml,
# at the learning rates in configs/tuned. bash scripts/gain_init.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=gain_init hydra/launcher=joblib "$@"
