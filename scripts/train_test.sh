#!/usr/bin/env bash
# Does a network compute the same at training and at test time? Nothing is tuned for it.
exec bash "$(dirname "$0")/experiment.sh" train_test "$@"
