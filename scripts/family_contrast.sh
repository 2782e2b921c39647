#!/usr/bin/env bash
# Is LN ahead of BN in recurrent networks and behind it in a CNN? The runs of both experiments, which report judges.
exec bash "$(dirname "$0")/experiment.sh" recurrent_gain,conv_gain "$@"
