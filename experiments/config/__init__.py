"""What may be set: schemas, the fields of every command, cells of an experiment and their tuned learning rates."""
