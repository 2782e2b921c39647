#!/usr/bin/env bash
# The runs of experiment groups: every cell and seed of configs/experiment/groups.yaml,
# at the learning rates in configs/tuned. bash scripts/groups.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=groups hydra/launcher=joblib "$@"
