"""A run seen from inside: checks, data and model, loop, step, evaluation, checkpoints."""
