#!/usr/bin/env bash
# The runs of experiment batch_size: every cell and seed of configs/experiment/batch_size.yaml,
# at the learning rates in configs/tuned. bash scripts/batch_size.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=batch_size hydra/launcher=joblib "$@"
