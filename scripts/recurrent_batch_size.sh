#!/usr/bin/env bash
# The runs of experiment recurrent_batch_size: every cell and seed of configs/experiment/recurrent_batch_size.yaml,
# at the learning rates in configs/tuned. bash scripts/recurrent_batch_size.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=recurrent_batch_size hydra/launcher=joblib "$@"
