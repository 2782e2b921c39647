"""The number of ranks and the rank of this process, from torchrun's variables. Imports no torch, to start quickly."""

import os


def num_ranks() -> int:
    """Return the number of processes of one run: those that torchrun started, else 1."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return the rank of this process. Rank 0 prints and writes for all."""
    return int(os.environ["RANK"]) if num_ranks() > 1 else 0
