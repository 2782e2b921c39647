"""Sequences of several lengths, without padding: the layout of torch.nn.utils.rnn.PackedSequence.

The longest sequence comes first, so that the cases still running at a step are the first ones. A row is one case at one
step; the rows of a step lie side by side, the steps after each other.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


class Ragged:
    """Which cases run at which step.

    cases: of each step, falling. lengths: steps of each case (N,), falling, on the CPU.
    """

    def __init__(self, batch_sizes: Tensor):
        self.cases: list[int] = batch_sizes.tolist()
        self.batch_sizes = batch_sizes
        self.lengths = (batch_sizes > torch.arange(self.cases[0])[:, None]).sum(1)

    def rows(self, z: Tensor) -> Tensor:
        """z (T, N, ...) with its padding -> (rows, ...)"""
        running = torch.arange(len(z))[:, None] < self.lengths
        return z[running.to(z.device)]

    def flip(self, z: Tensor) -> Tensor:
        """z (rows, ...) with each sequence turned around, from its own last step to its first."""
        return z[self._flipped.to(z.device)]

    @functools.cached_property
    def _flipped(self) -> Tensor:
        first = self.batch_sizes.cumsum(0) - self.batch_sizes
        t = torch.arange(len(self.cases)).repeat_interleave(self.batch_sizes)
        n = torch.arange(len(t)) - first[t]
        return first[self.lengths[n] - 1 - t] + n


def checked_lengths(lengths: Tensor | Sequence[int], T: int, N: int) -> Tensor:
    """lengths as int64 on the CPU. Raises TypeError or ValueError where they are not the lengths of N sequences."""
    given = torch.as_tensor(lengths)
    if given.numel() and (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool):
        raise TypeError(f"lengths are integers, got {given.dtype}; give lengths.long()")
    if given.shape != (N,):
        raise ValueError(f"expected a length for each of {N} sequences, got lengths of shape {tuple(given.shape)}")
    given = given.to("cpu", torch.int64)
    for n, length in enumerate(given.tolist()):
        if not 1 <= length <= T:
            raise ValueError(f"lengths[{n}]={length}: a length is at least 1 and at most {T}, the steps of the input")
    return given
