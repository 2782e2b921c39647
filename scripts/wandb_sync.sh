#!/usr/bin/env bash
# Uploads the runs of a folder (results/runs) to Weights & Biases; needs a key (wandb login). Started again, it resumes
# where it stopped. bash scripts/wandb_sync.sh /scratch/runs project=trial
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if [[ $# -gt 0 && $1 != *=* ]]; then
    set -- runs_dir="$1" "${@:2}"
fi
python -m experiments.wandb_sync "$@"
