#!/usr/bin/env bash
# Chooses the learning rates in configs/tuned/quick: every experiment, seeds of its own, the validation split alone.
# About 25 minutes on two cores. Only needed after a recipe has changed; the choice and its rows are committed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

for experiment in recurrent_gain conv_gain batch_size; do
    python -m experiments.tune experiment="$experiment" profile=quick hydra/launcher=joblib "$@"
done
