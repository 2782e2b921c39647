#!/usr/bin/env bash
# Does layer normalisation help an LSTM that has to remember?
exec bash "$(dirname "$0")/experiment.sh" long_memory "$@"
