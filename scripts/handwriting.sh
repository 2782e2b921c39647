#!/usr/bin/env bash
# Does layer normalisation speed up a model of handwriting?
exec bash "$(dirname "$0")/experiment.sh" handwriting "$@"
