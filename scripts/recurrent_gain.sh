#!/usr/bin/env bash
# Does LN help RNN, LSTM and GRU language models, and more than the other normalisers?
exec bash "$(dirname "$0")/experiment.sh" recurrent_gain "$@"
