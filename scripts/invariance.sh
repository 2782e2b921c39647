#!/usr/bin/env bash
# The paper's table 1, measured exactly. Nothing is tuned for it.
exec bash "$(dirname "$0")/experiment.sh" invariance "$@"
