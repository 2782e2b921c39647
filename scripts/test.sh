#!/usr/bin/env bash
# All tests, after linter and type checker: about 14 minutes on two cores. Tests on downloaded data sets run when
# LAYERNORM_DATA names their folder. Further arguments go to pytest, as in: bash scripts/test.sh tests/models/test_norms.py -k ln
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m ruff check .
python -m ruff format --check .
python -m mypy
python -m pytest -n 2 "$@"
