#!/usr/bin/env bash
# How fast the recurrent layers are on this machine, against torch.nn and other ways to write them: about 10 minutes.
# bash scripts/benchmark.sh quick=true for a smoke of seconds; sizes=[256] cells=[lstm] minutes=3 for a part.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.benchmark "$@"
