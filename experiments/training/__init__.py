"""A run from inside: check, data and model, loop, step, evaluation, checkpoints."""
