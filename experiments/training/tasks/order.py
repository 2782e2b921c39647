"""The order of the training examples: a function of (seed, epoch) alone."""

import torch
from torch import Tensor

from experiments.config.errors import ConfigError


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of an epoch's order."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


class Order:
    """Which examples a training step takes: those of an epoch in an order of its own."""

    def __init__(self, count: int, what: str, settings, seed: int, device: str):
        """Raise ConfigError when `count` examples, called `what`, make no batch."""
        self.count, self.batch_size, self.seed, self.device = count, settings.batch_size, seed, device
        if count < self.batch_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size} is more than the {count} training {what} of "
                f"data={settings.name}; choose a smaller batch"
            )
        self.steps_per_epoch = count // self.batch_size
        self._epoch = -1  # whose order is ...
        self._order = torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        """Return the indices (N,) of a training step's examples."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(self.count, generator=epoch_generator(self.seed, epoch))
            self._epoch = epoch
            self._order = order.to(self.device)
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]
