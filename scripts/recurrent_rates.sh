#!/usr/bin/env bash
# How much does it cost a recurrent language model not to know the best learning rate?
exec bash "$(dirname "$0")/experiment.sh" recurrent_rates "$@"
