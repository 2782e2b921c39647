"""A run from outside: its identity, folder, rows, progress, wandb mirror; the process that trains it."""
