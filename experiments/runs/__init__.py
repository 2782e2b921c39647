"""A run seen from outside: identity, folder, rows, progress, wandb mirror; and the process that trains it."""
