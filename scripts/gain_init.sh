#!/usr/bin/env bash
# Does it matter whether the gains start at 0.1 or at 1?
exec bash "$(dirname "$0")/experiment.sh" gain_init "$@"
