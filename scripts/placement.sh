#!/usr/bin/env bash
# The runs of experiment placement: every cell and seed of configs/experiment/placement.yaml,
# at the learning rates in configs/tuned. bash scripts/placement.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=placement hydra/launcher=joblib "$@"
