#!/usr/bin/env bash
# Where does GN stand between LN (one group) and IN (a group per channel)?
exec bash "$(dirname "$0")/experiment.sh" groups "$@"
