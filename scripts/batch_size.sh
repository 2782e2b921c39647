#!/usr/bin/env bash
# Which normaliser of a CNN depends on the batch size, from batch 2 up?
exec bash "$(dirname "$0")/experiment.sh" batch_size "$@"
