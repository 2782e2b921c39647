#!/usr/bin/env bash
# The runs that experiment family_contrast judges together: recurrent_gain's and conv_gain's; it has none of its own.
# bash scripts/family_contrast.sh profile=standard
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/recurrent_gain.sh "$@"
bash scripts/conv_gain.sh "$@"
