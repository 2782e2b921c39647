#!/usr/bin/env bash
# Chooses the learning rates in configs/experiment/*/tuned/<profile>.yaml: every experiment, seeds of its own, the validation split alone.
# bash scripts/tune.sh takes the quick profile, about 15 minutes on two cores; bash scripts/tune.sh standard hours.
# Only needed after a recipe has changed; the choice and its rows are committed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

profile="${1:-quick}"
for experiment in recurrent_gain recurrent_batch_size conv_gain batch_size permutation_invariant_mnist groups gain_init \
    placement; do
    python -m experiments.tune experiment="$experiment" profile="$profile" hydra/launcher=joblib
done
