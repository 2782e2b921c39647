"""What torchrun says of this process. Imports no torch, so that a refusal comes at once."""

import os


def num_ranks() -> int:
    """The processes of one run: those that torchrun has started, else one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Which of them this is. The first, 0, speaks and writes for all."""
    return int(os.environ["RANK"]) if num_ranks() > 1 else 0
