#!/usr/bin/env bash
# Does layer normalisation speed up skip-thoughts, and make better features of sentences?
exec bash "$(dirname "$0")/experiment.sh" skip_thoughts "$@"
