#!/usr/bin/env bash
# Where in an LSTM does LN belong?
exec bash "$(dirname "$0")/experiment.sh" placement "$@"
