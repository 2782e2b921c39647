"""The memory of a sequence is used again, and never by two."""

import gc
import itertools
import mmap
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
    assert pool.take(60_000, torch.float32).data_ptr() != start, "a much smaller one does not hold a large block"


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_a_large_block_begins_on_a_huge_page(empty_pool):
    block = pool.take(1_000_000, torch.float32)
    assert block.data_ptr() % pool.HUGE == 0
    assert block.fill_(1).sum() == 1_000_000
    assert pool.take(1000, torch.float32).data_ptr() % pool.ALIGNMENT == 0


def test_a_block_beyond_all_memory_is_refused(empty_pool):
    with pytest.raises(MemoryError):
        pool.take(1 << 58, torch.float32)


def test_a_bounded_number_of_blocks_is_kept_the_latest(empty_pool, monkeypatch):
    blocks = [pool.take(1000 * (1 + k % 3), torch.float32) for k in range(3 * pool.KEPT)]
    del blocks
    assert sum(map(len, pool._free.values())) == pool.KEPT
    made, new = [], pool._new
    monkeypatch.setattr(pool, "_new", lambda capacity: made.append(capacity) or new(capacity))
    pool.take(2_000_000, torch.float32)
    assert len(made) == 1
    for _ in range(2 * pool.KEPT):  # another comes back, time and again; the large one stays
        pool.take(1000, torch.float32)
    pool.take(2_000_000, torch.float32)
    assert len(made) == 1
    blocks = [pool.take(4000, torch.float32) for _ in range(pool.KEPT)]
    made.clear()
    del blocks
    pool.take(1000, torch.float32), pool.take(2_000_000, torch.float32)
    assert len(made) == 2, "those that waited longest went first"


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
