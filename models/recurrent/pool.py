"""Memory for tensors that is used again.

A fresh page costs microseconds at its first touch, and a sequence's buffers are megabytes every training step. A
tensor from here gives its memory back when its storage dies, whoever held it: autograd after the backward pass, the
user's last reference. Nothing is handed out twice at once, so no graph loses its memory to another.
"""

import contextlib
import mmap
import weakref

import numpy
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line and the widest vector
HUGE = 2 << 20  # bytes of a huge page on most machines
KEPT = 32  # free blocks; the one that waited longest is let go first

_free: dict[int, list[numpy.ndarray]] = {}  # by capacity; a capacity moves to the end when a block comes back
_lent: dict[int, tuple[weakref.ref, numpy.ndarray]] = {}


def take(size: int, dtype: torch.dtype) -> Tensor:
    """`size` elements, contiguous, aligned, uninitialised, on the CPU."""
    needed = size * dtype.itemsize
    unit = 1 << max(needed.bit_length() - 3, 12)  # 4 capacities an octave: sequences of similar lengths share blocks
    capacity = -(-needed // unit) * unit
    blocks = _free.get(capacity)
    block = blocks.pop() if blocks else _new(capacity)
    view = block[:needed]  # what the tensor holds; when it dies, so does the reference
    key = id(view)
    _lent[key] = weakref.ref(view, lambda _: _give_back(key)), block
    return torch.from_numpy(view).view(dtype)


def _new(capacity: int) -> numpy.ndarray:
    # A pass walks through several megabytes. In pages of 4 KB it would wait for the translation of addresses, and for a
    # fault at the first touch of each.
    huge = capacity >= HUGE // 2 and hasattr(mmap, "MADV_HUGEPAGE")
    alignment = HUGE if huge else ALIGNMENT
    if huge:
        try:
            pages = -(-capacity // HUGE) + 1  # one to align with; the block's last is whole
            memory = mmap.mmap(-1, pages * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no memory for {capacity} bytes of a sequence") from error
        with contextlib.suppress(OSError):  # a system built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
        raw = numpy.frombuffer(memory, numpy.uint8)
    else:
        raw = numpy.empty(capacity + alignment, numpy.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + capacity]


def _give_back(key: int) -> None:
    _, block = _lent.pop(key)
    capacity = len(block)
    blocks = _free.pop(capacity, [])
    blocks.append(block)
    _free[capacity] = blocks
    if sum(map(len, _free.values())) > KEPT:
        oldest = next(capacity for capacity, blocks in _free.items() if blocks)
        _free[oldest].pop(0)
