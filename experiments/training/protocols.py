"""What the training loop calls: a task to learn, and a recorder of its rows and checkpoints."""

from typing import Protocol

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]  # inputs and targets


class Task(Protocol):
    """What is learnt (experiments.training.tasks)."""

    @property
    def batch_size(self) -> int:
        """Examples of a training step, over all ranks."""

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the training split."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a training step, a function of the seed and the step alone."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, a scalar."""

    def metrics(self, loss: float) -> dict[str, float]:
        """Return a mean loss in the units of the field, under their names."""

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the metrics over a whole split; leaves the model in evaluation mode."""


class Recorder(Protocol):
    """What takes a run's rows and checkpoints (recorder.py)."""

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        """Load the checkpoint into model, optimiser and generators; return the loop's state, {} without one."""

    def log(self, row: dict) -> None:
        """Keep a row of metrics."""

    def progress(self, step: int, steps: int, seconds: float, loss: float, val: dict) -> None:
        """Show how far training has come; called after every step whose loss is known."""

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
        """Write a checkpoint with the loop's state, which `restore` returns. Raises OSError."""
