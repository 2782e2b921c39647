#!/usr/bin/env bash
# The runs of experiment invariance: every cell and seed of configs/experiment/invariance.yaml, and what is
# measured on them. Nothing is tuned for it. bash scripts/invariance.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=invariance hydra/launcher=joblib "$@"
