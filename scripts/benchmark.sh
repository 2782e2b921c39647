#!/usr/bin/env bash
# Times the recurrent layers on this machine against torch.nn and other implementations: about 10 minutes.
# bash scripts/benchmark.sh quick=true for a smoke test of seconds; sizes=[256] cells=[lstm] minutes=3 for a part.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m experiments.benchmark "$@"
