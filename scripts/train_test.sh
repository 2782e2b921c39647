#!/usr/bin/env bash
# The runs of experiment train_test: every cell and seed of configs/experiment/train_test.yaml, and what is
# measured on them. Nothing is tuned for it. bash scripts/train_test.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=train_test hydra/launcher=joblib "$@"
