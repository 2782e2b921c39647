#!/usr/bin/env bash
# Every experiment of a profile, then the report. bash scripts/reproduce.sh takes the quick one, on data that come with
# Python and scikit-learn: about 10 minutes on two cores. bash scripts/reproduce.sh standard needs data sets of yours
# (data/README.md) and an hour or two. Started again it runs only what is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

profile="${1:-quick}"
experiments=recurrent_gain,recurrent_batch_size,conv_gain,batch_size,permutation_invariant_mnist,invariance,train_test
python -m experiments.train -m experiment="$experiments,groups,gain_init,placement" profile="$profile" \
    hydra/launcher=joblib
python -m experiments.report profile="$profile"
