#!/usr/bin/env bash
# Does LN help recurrent networks more than CNNs? Judged on the runs of these two experiments.
exec bash "$(dirname "$0")/experiment.sh" recurrent_gain,conv_gain "$@"
