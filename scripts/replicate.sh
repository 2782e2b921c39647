#!/usr/bin/env bash
# A profile once more on seeds of its own, and claim by claim whether the verdict is the committed one.
#   bash scripts/replicate.sh                      quick, seeds from 40 on
#   bash scripts/replicate.sh standard 60          another profile, other seeds
# The report goes to results/<profile>_seeds<first seed>.
set -euo pipefail
profile="${1:-quick}" first="${2:-40}"
# A profile's own seeds are at most 20, from 20 on; 0, 1 and 2 choose the learning rates.
if ! [[ "$first" =~ ^[0-9]+$ ]] || [ "$first" -lt 40 ]; then
    echo "error: first seed $first is not beyond the profile's own; give 40 or more" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source scripts/experiments_of.sh

python -m experiments.train -m experiment="$(with_runs "$profile")" profile="$profile" profile.first_seed="$first" \
    hydra/launcher=joblib
python -m experiments.report profile="$profile" profile.first_seed="$first" output="results/${profile}_seeds$first"
