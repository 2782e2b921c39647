#!/usr/bin/env bash
# Does layer normalisation help a reader that answers questions?
exec bash "$(dirname "$0")/experiment.sh" attentive_reader "$@"
