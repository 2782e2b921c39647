"""The memory of a sequence is used again, and never by two."""

import gc
import itertools
import mmap
import os
import signal
import sys
import threading

import pytest
import torch

from models.recurrent import pool
from tests.helpers.fused import make, noise


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    ends = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in (a, b)]
    return max(start for start, _ in ends) < min(end for _, end in ends)


HOLDERS = {
    "view": lambda t: t[5:9],
    "numpy": lambda t: t.numpy(),
    "storage": lambda t: t.untyped_storage(),
    "other_type": lambda t: t.view(torch.int32),
    "detached": lambda t: t.detach(),
    "graph": lambda t: (t.requires_grad_() ** 2).sum(),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_whatever_holds_memory_keeps_it(hold, empty_pool):
    first = pool.take(1000, torch.float32)
    start = first.data_ptr()
    held = hold(first)
    del first
    second = pool.take(1000, torch.float32)
    assert abs(second.data_ptr() - start) >= 4000
    del held
    gc.collect()
    assert pool.take(1000, torch.float32).data_ptr() == start, "after the last holder it is used again"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blocks_are_aligned_apart_and_of_the_size(dtype, empty_pool):
    """Also blocks that come back at another size or type."""
    for _ in range(2):
        blocks = [pool.take(size, dtype) for size in (1, 3, 1000, 1025, 16383, 16385, 100_000, 4097, 4095)]
        for k, block in enumerate(blocks):
            assert block.dtype == dtype and block.is_contiguous() and block.data_ptr() % pool.ALIGNMENT == 0
            block.fill_(k)
        assert [block.numel() for block in blocks] == [1, 3, 1000, 1025, 16383, 16385, 100_000, 4097, 4095]
        for k, block in enumerate(blocks):
            assert (block == k).all()
        assert not any(overlap(a, b) for a, b in itertools.combinations(blocks, 2))
        del blocks, block


def test_similar_sizes_share_blocks(empty_pool):
    start = pool.take(100_000, torch.float32).data_ptr()
    assert pool.take(99_000, torch.float32).data_ptr() == start
    assert pool.take(50_000, torch.float64).data_ptr() == start
    assert pool.take(60_000, torch.float32).data_ptr() == start, "for want of one of its own size"
    assert pool.take(40_000, torch.float32).data_ptr() != start, "a much smaller one does not hold a large block"


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_a_large_block_begins_on_a_huge_page(empty_pool):
    block = pool.take(1_000_000, torch.float32)
    assert block.data_ptr() % pool.HUGE == 0
    assert block.fill_(1).sum() == 1_000_000
    assert pool.take(1000, torch.float32).data_ptr() % pool.ALIGNMENT == 0


def test_a_block_beyond_all_memory_is_refused(empty_pool):
    with pytest.raises(MemoryError):
        pool.take(1 << 58, torch.float32)


def test_a_block_that_nobody_takes_goes_back_to_the_system(empty_pool):
    """Also where others of its size come and go, and where nothing else is free."""
    pool.take(1000, torch.float32), pool.take(1_000_000, torch.float32)
    for kept in (True, False):
        for _ in range(pool.AGE - 2 if kept else 2):
            pool.take(1000, torch.float32)
        assert (empty_pool.free_bytes > 4_000_000) == kept
    pair = [pool.take(1000, torch.float32) for _ in range(2)]
    del pair
    for _ in range(pool.AGE):
        pool.take(1000, torch.float32)
    assert sum(map(len, empty_pool.free.values())) == 1
    assert empty_pool.lent_bytes == 0


def test_no_more_is_kept_than_twice_what_was_lent_at_once(empty_pool):
    """Sizes that share no blocks, each larger than the one before; the largest are kept."""
    for size in (1000 * 3**k for k in range(6)):
        pool.take(size, torch.float32)
        assert empty_pool.free_bytes <= 2 * 1.25 * 4 * size
    assert max(empty_pool.free) >= 4 * 243_000
    held = pool.take(243_000, torch.float32)
    assert empty_pool.free_bytes <= 1.25 * held.nbytes and empty_pool.lent_bytes >= held.nbytes


def test_one_long_batch_does_not_stay(empty_pool):
    """After a few steps with short ones the pool has what these need."""
    layer = make("lstm", 32, "ln", num_layers=2)
    layer(noise(400, 8, 5))[0].sum().backward()
    large = empty_pool.free_bytes + empty_pool.lent_bytes
    for _ in range(40):
        layer.zero_grad()
        layer(noise(4, 8, 5))[0].sum().backward()
    assert empty_pool.free_bytes + empty_pool.lent_bytes < 0.05 * large


def test_lengths_of_all_kinds_need_no_new_memory(empty_pool, monkeypatch):
    """Once the longest has come; whatever order the others come in."""
    made, new = [], pool._new
    monkeypatch.setattr(pool, "_new", lambda capacity: made.append(capacity) or new(capacity))
    layer, lengths = make("gru", 32, "ln"), [60, 57, 31, 44, 60, 38, 52, 33, 47, 60, 35, 41]
    for order in (lengths, lengths[::-1]):
        made.clear()
        for T in order:
            layer.zero_grad()
            layer(noise(T, 8, 5))[0].sum().backward()
    assert not made


def test_threads_take_and_give_back(empty_pool):
    """No block is lent twice and nothing is raised while several threads use the pool."""
    failed, interval, hook = [], sys.getswitchinterval(), sys.unraisablehook
    sys.unraisablehook = lambda args: failed.append(args.exc_value)

    def work(number: int):
        try:
            for k in range(1500):
                held = [pool.take(1000 * (1 + (k + j) % 5), torch.float32).fill_(number) for j in range(10)]
                if not all((block == number).all() for block in held):
                    failed.append("lent twice")
        except Exception as error:
            failed.append(error)

    try:
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        sys.unraisablehook = hook
    assert not failed, failed[:3]
    pool.take(1000, torch.float32)  # sorts in what came back while another had the lock
    assert empty_pool.lent_bytes == 0
    assert empty_pool.free_bytes == sum(len(block) for blocks in empty_pool.free.values() for _, block in blocks)


def test_blocks_come_back_while_another_is_taken(empty_pool):
    """From cycles that a collection of garbage breaks, at any allocation of `take`'s own."""
    thresholds = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for k in range(2000):
            cycle = [pool.take(1000 * (1 + k % 7), torch.float32)]
            cycle.append(cycle)
    finally:
        gc.set_threshold(*thresholds)
    del cycle
    gc.collect()
    pool.take(1000, torch.float32)
    assert empty_pool.lent_bytes == 0 and empty_pool.free_bytes <= 8 * 2**20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_takes_memory_whatever_the_parents_threads_are_at():
    with pool.POOL._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(int(pool.take(1000, torch.float32).numel() != 1000))
    assert os.waitpid(child, 0)[1] == 0


def test_training_steps_need_no_new_memory(empty_pool, monkeypatch):
    """After the first step every block of a step is one that came back."""
    made, new = [], pool._new
    monkeypatch.setattr(pool, "_new", lambda capacity: made.append(capacity) or new(capacity))
    layer = make("lstm", 33, "ln", num_layers=2, bidirectional=True)
    optimiser = torch.optim.SGD(layer.parameters(), 1e-3)
    for step in range(4):
        optimiser.zero_grad()
        layer(noise(6, 3, 5, seed=step))[0].square().sum().backward()
        optimiser.step()
        if step == 1:
            made.clear()
    assert not made
