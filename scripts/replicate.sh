#!/usr/bin/env bash
# A profile once more on seeds of its own, and claim by claim whether the verdict is the committed one.
#   bash scripts/replicate.sh                      quick, seeds from 40 on
#   bash scripts/replicate.sh standard 60          another profile, other seeds
# The report goes to results/<profile>_seeds<first seed>.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source scripts/experiments_of.sh

profile="${1:-quick}" first="${2:-40}"
python -m experiments.train -m experiment="$(with_runs "$profile")" profile="$profile" profile.first_seed="$first" \
    hydra/launcher=joblib
python -m experiments.report profile="$profile" profile.first_seed="$first" output="results/${profile}_seeds$first"
