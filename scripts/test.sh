#!/usr/bin/env bash
# Runs all tests, after the linters and the type checker: 10 to 30 minutes on two cores. Tests on downloaded data sets
# run when LAYERNORM_DATA names their folder. Arguments go to pytest: bash scripts/test.sh tests/models/test_norms.py
set -euo pipefail
extras=experiments,dev
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m ruff check .
python -m ruff format --check .
python -m mypy
.venv/bin/lint-imports
# A worker takes neighbouring tests, which share what a module prepares. Four on two cores, since many wait for a process.
python -m pytest -n 4 --dist worksteal "$@"
