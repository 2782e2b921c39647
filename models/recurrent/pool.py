"""Memory for tensors that is used again.

A fresh page costs microseconds at its first touch, and a sequence's buffers are megabytes every training step. A
tensor from here gives its memory back when its storage dies, whoever held it: autograd after the backward pass, the
user's last reference. Nothing is handed out twice at once, so a retained graph stays whole.
"""

import math
import weakref

import numpy
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line and the widest vector
KEPT = 32  # free blocks; the one that waited longest goes first
SIZES_PER_OCTAVE = 4  # sizes are rounded up to 2^(k/4), so that sequences of similar lengths share blocks

_free: list[numpy.ndarray] = []


def take(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A contiguous, aligned, uninitialised CPU tensor."""
    size = math.prod(shape) * dtype.itemsize
    octaves = math.ceil(math.log2(max(size, 4096)) * SIZES_PER_OCTAVE) / SIZES_PER_OCTAVE
    capacity = math.ceil(2**octaves)
    for index in range(len(_free) - 1, -1, -1):  # the last one returned is the one most likely in the cache
        if len(_free[index]) == capacity + ALIGNMENT:
            block = _free.pop(index)
            break
    else:
        block = numpy.empty(capacity + ALIGNMENT, numpy.uint8)
    start = -block.ctypes.data % ALIGNMENT
    lent = block[start : start + size]
    weakref.finalize(lent, _give_back, block).atexit = False
    return torch.from_numpy(lent).view(dtype).view(shape)


def _give_back(block: numpy.ndarray) -> None:
    _free.append(block)
    if len(_free) > KEPT:
        del _free[0]
