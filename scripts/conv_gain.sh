#!/usr/bin/env bash
# Does LN help a CNN, and how does it compare with BN and GN at a large batch?
exec bash "$(dirname "$0")/experiment.sh" conv_gain "$@"
