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

    batch_sizes: cases of each step (T,), falling, on the CPU, as of a PackedSequence; `cases` is the same as a list.
    lengths: steps of each case (N,), falling. order: (N,) which of the caller's cases each one is; None: the same one.
    """

    def __init__(self, batch_sizes: Tensor, order: Tensor | None = None):
        self.batch_sizes, self.order = batch_sizes, order
        self.cases: list[int] = batch_sizes.tolist()
        self.lengths = _how_many_more_than(batch_sizes, self.cases[0])

    @classmethod
    def of_lengths(cls, lengths: Tensor, device: torch.device) -> "Ragged":
        """lengths: (N,) in any order."""
        lengths, order = lengths.sort(descending=True)
        return cls(_how_many_more_than(lengths, int(lengths[0])), order.to(device))

    def rows(self, z: Tensor) -> Tensor:
        """The caller's z (T', N, ...), T' >= T, -> (rows, ...)"""
        return z.flatten(0, 1)[self._places.to(z.device)]

    def padded(self, rows: Tensor, T: int) -> Tensor:
        """(..., C) -> (T, N, C) in the caller's order, zeros past the end of a sequence."""
        rows = rows.flatten(0, -2)
        padded = rows.new_zeros(T * self.cases[0], rows.shape[-1]).index_copy(0, self._places.to(rows.device), rows)
        return padded.view(T, self.cases[0], -1)

    def flip(self, rows: Tensor) -> Tensor:
        """Each sequence turned around, from its own last step to its first."""
        return rows[self._flipped.to(rows.device)]

    @functools.cached_property
    def _step_and_case(self) -> tuple[Tensor, Tensor]:
        """Of each row."""
        t = torch.arange(len(self.cases)).repeat_interleave(self.batch_sizes)
        return t, torch.arange(len(t)) - self._first_rows[t]

    @functools.cached_property
    def _first_rows(self) -> Tensor:
        return self.batch_sizes.cumsum(0) - self.batch_sizes

    @functools.cached_property
    def _places(self) -> Tensor:
        t, n = self._step_and_case
        return t * self.cases[0] + (n if self.order is None else self.order.cpu()[n])

    @functools.cached_property
    def _flipped(self) -> Tensor:
        t, n = self._step_and_case
        return self._first_rows[self.lengths[n] - 1 - t] + n


def _how_many_more_than(values: Tensor, count: int) -> Tensor:
    """How many of the values are larger than 0, 1, ..., count - 1: from lengths to batch sizes, and back."""
    return (values > torch.arange(count)[:, None]).sum(1)


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
