#!/usr/bin/env bash
# The quick profile of every claim: three experiments on data that come with Python and scikit-learn, then the report.
# At most 10 minutes on two cores after the install. Started again it runs only what is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

experiments=(recurrent_gain conv_gain batch_size)
for i in "${!experiments[@]}"; do
    echo "experiment $((i + 1)) of ${#experiments[@]}: ${experiments[i]}"
    python -m experiments.train -m experiment="${experiments[i]}" profile=quick hydra/launcher=joblib
done
python -m experiments.report profile=quick
