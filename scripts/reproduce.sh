#!/usr/bin/env bash
# Every experiment of a profile, then the report. bash scripts/reproduce.sh takes the quick one, on data that come with
# Python and scikit-learn: about 10 minutes on two cores. bash scripts/reproduce.sh standard needs data sets of yours
# (data/README.md) and a night. Started again it runs only what is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source scripts/experiments_of.sh

profile="${1:-quick}"
python -m experiments.train -m experiment="$(with_runs "$profile")" profile="$profile" hydra/launcher=joblib
python -m experiments.report profile="$profile"
