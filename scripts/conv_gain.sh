#!/usr/bin/env bash
# The runs of experiment conv_gain: every cell and seed of configs/experiment/conv_gain.yaml,
# at the learning rates in configs/tuned. bash scripts/conv_gain.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=conv_gain hydra/launcher=joblib "$@"
