#!/usr/bin/env bash
# How much does the scale of the initial weights matter to a recurrent language model?
exec bash "$(dirname "$0")/experiment.sh" recurrent_scale "$@"
