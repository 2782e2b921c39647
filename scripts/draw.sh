#!/usr/bin/env bash
# Does layer normalisation speed up a generative model, DRAW?
exec bash "$(dirname "$0")/experiment.sh" draw "$@"
