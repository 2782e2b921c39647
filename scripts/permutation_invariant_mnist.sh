#!/usr/bin/env bash
# The runs of experiment permutation_invariant_mnist: every cell and seed of configs/experiment/permutation_invariant_mnist.yaml,
# at the learning rates in configs/tuned. bash scripts/permutation_invariant_mnist.sh profile=standard
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.train -m experiment=permutation_invariant_mnist hydra/launcher=joblib "$@"
