#!/usr/bin/env bash
# Does layer normalisation speed up sentence retrieval with order embeddings?
exec bash "$(dirname "$0")/experiment.sh" order_embedding "$@"
