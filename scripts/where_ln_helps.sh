#!/usr/bin/env bash
# In which regime does layer normalisation help an LSTM language model?
exec bash "$(dirname "$0")/experiment.sh" where_ln_helps "$@"
