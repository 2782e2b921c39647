#!/usr/bin/env bash
# The paper's figure 6: a fully connected network at batch 128 and 4.
exec bash "$(dirname "$0")/experiment.sh" permutation_invariant_mnist "$@"
