#!/usr/bin/env bash
# Chooses the learning rates in configs/experiment/*/tuned/<profile>.yaml: every experiment, seeds of its own, the
# validation split alone. bash scripts/tune.sh takes the quick profile, about 15 minutes on two cores; bash
# scripts/tune.sh standard hours. Only needed after a recipe has changed; the choice and its rows are committed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source scripts/experiments_of.sh

profile="${1:-quick}"
for experiment in $(experiments_of "$profile"); do
    # One without rates to choose from is not tuned.
    if grep -q "^  tune_lr:" "configs/experiment/$experiment/$profile.yaml" 2> /dev/null; then
        python -m experiments.tune experiment="$experiment" profile="$profile" hydra/launcher=joblib
    fi
done
