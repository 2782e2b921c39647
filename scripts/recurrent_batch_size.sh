#!/usr/bin/env bash
# Which normaliser of an LSTM or RNN depends on the batch size?
exec bash "$(dirname "$0")/experiment.sh" recurrent_batch_size "$@"
