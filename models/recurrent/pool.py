"""Memory for tensors that is used again.

A fresh page costs microseconds at its first touch, and a sequence's buffers are megabytes every training step. A
tensor from here gives its memory back when its storage dies, whoever held it: autograd after the backward pass, the
user's last reference. Nothing is handed out twice at once, so no graph loses its memory to another.

Free blocks go back to the system, the one that waited longest first: once AGE others have come back since, and as soon
as the pool has more than twice what was lent at once lately. Twice, since a sequence may take a block twice its size:
blocks for lengths of all kinds, each half as large as the one before, add up to that.
"""

import atexit
import contextlib
import mmap
import os
import threading
import weakref
from collections import deque

import numpy
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line and the widest vector
HUGE = 2 << 20  # bytes of a huge page on most machines
SMALL = 64 << 10  # bytes of a block that malloc has at hand: half of what glibc asks the system for, page by page
AGE = 256  # a few training steps of a deep network


class Pool:
    """Blocks of memory, for any thread.

    A block comes back wherever its tensor dies, also in the midst of `take`, which a collection of garbage may
    interrupt: so coming back is one atomic step, and never waits for the lock.
    """

    def __init__(self):
        self.free: dict[int, deque[tuple[int, numpy.ndarray]]] = {}  # by capacity: (when it came, block), oldest first
        self.free_bytes = self.lent_bytes = 0
        self._returns = 0  # blocks that have come back
        self._most = [0, 0]  # bytes lent at once: in the AGE returns before the last multiple of AGE, and since then
        self._lent: dict[int, tuple[weakref.ref, numpy.ndarray]] = {}
        self._back: deque[numpy.ndarray] = deque()  # came back, not yet free
        self._lock = threading.Lock()

    def take(self, size: int, dtype: torch.dtype) -> Tensor:
        """`size` elements, contiguous, aligned, uninitialised, on the CPU."""
        needed = size * dtype.itemsize
        unit = 1 << max(needed.bit_length() - 3, 12)  # 4 capacities an octave, so that similar lengths share blocks
        capacity = -(-needed // unit) * unit
        with self._lock:
            self._sort_in()
            block = self._reuse(capacity)
            if block is None:
                block = _new(capacity)
            self.lent_bytes += len(block)
            self._most[1] = max(self._most[1], self.lent_bytes)
            self._trim()
        view = block[:needed]  # what the tensor holds; when it dies, so does the reference
        key = id(view)
        self._lent[key] = weakref.ref(view, lambda _: self._give_back(key)), block
        return torch.from_numpy(view).view(dtype)

    def _reuse(self, capacity: int) -> numpy.ndarray | None:
        if capacity not in self.free:
            capacity = min((other for other in self.free if capacity < other <= 2 * capacity), default=0)
            if not capacity:
                return None
        _, block = self.free[capacity].pop()
        self._forget(capacity)
        return block

    def _give_back(self, key: int) -> None:
        self._back.append(self._lent.pop(key)[1])
        if self._lock.acquire(blocking=False):  # otherwise whoever takes next does it
            try:
                self._sort_in()
            finally:
                self._lock.release()

    def _sort_in(self) -> None:
        """Make free what came back."""
        while self._back:
            block = self._back.popleft()
            capacity = len(block)
            self._returns += 1
            if self._returns % AGE == 0:
                self._most = [self._most[1], self.lent_bytes]
            self.lent_bytes -= capacity
            self.free_bytes += capacity
            waiting = self.free.pop(capacity, deque())  # its capacity becomes the last: the first has waited longest
            waiting.append((self._returns, block))
            self.free[capacity] = waiting
            if self._returns - waiting[0][0] >= AGE:
                self._let_go(capacity)
            self._trim()

    def _trim(self) -> None:
        while self.free:
            oldest = next(iter(self.free))
            came, _ = self.free[oldest][0]
            if self._returns - came < AGE and self.free_bytes + self.lent_bytes <= 2 * max(self._most):
                return
            self._let_go(oldest)

    def _let_go(self, capacity: int) -> None:
        self.free[capacity].popleft()
        self._forget(capacity)

    def _forget(self, capacity: int) -> None:
        """A block of this capacity is no longer free."""
        self.free_bytes -= capacity
        if not self.free[capacity]:
            del self.free[capacity]


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


POOL = Pool()


def take(size: int, dtype: torch.dtype) -> Tensor:
    """See Pool.take. A small block comes from malloc, which has it at hand and in a tenth of the time."""
    return torch.empty(size, dtype=dtype) if size * dtype.itemsize < SMALL else POOL.take(size, dtype)


atexit.register(POOL._lent.clear)  # what is still held then does not come back: modules may be gone by that time
if hasattr(os, "register_at_fork"):  # the lock may be held by a thread that the child does not have
    os.register_at_fork(after_in_child=lambda: setattr(POOL, "_lock", threading.Lock()))
