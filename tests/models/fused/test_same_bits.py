"""The same inputs give the same bits, whatever the threads and the memory."""

import pytest
import torch

from models.recurrent import CELLS, cpu, layout
from tests.helpers.fused import assert_close, assert_same_bits, call, make, noise, run, states_of, twin


@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_share_the_cases_and_runs_repeat(cell, norm, threads):
    """Two threads with an odd number of cases, and four with three: as one thread up to the order of the sums."""
    H, T = {"rnn": 240, "lstm": 130, "gru": 150}[cell], 16
    layer = make(cell, H, norm)
    for N, count in (5, 2), (3, 4):
        assert T * N * layer.weight_hh_l0.numel() >= cpu.SPLIT_FROM, "too little work to be split"
        x, states = noise(T, N, 5), states_of(layer, N)
        one = run(layer, x, states)
        assert_same_bits(run(layer, x, states), one)
        threads(count)
        several = run(layer, x, states)
        assert_same_bits(run(layer, x, states), several)
        assert_close(several, one, 1e-11)
        if norm != "bn":  # which needs the whole batch
            assert any(not torch.equal(several[name], one[name]) for name in one), "nothing was split"
        with torch.no_grad():
            assert torch.equal(call(layer, x, states)[0], several["y"])
        threads(1)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_inputs_are_multiplied_a_few_steps_at_once(cell, norm, count, threads):
    """Two portions, the second one short, in both directions; with and without what backward needs."""
    H, T, N = {"rnn": 110, "lstm": 50, "gru": 60}[cell], 23, 9
    layer = make(cell, H, norm, bidirectional=True)
    assert (
        T * N * layer.weight_hh_l0.numel() >= cpu.SPLIT_FROM and T % (layout.TOGETHER // N) and T > layout.TOGETHER // N
    )
    x, states = noise(T, N, 5), states_of(layer, N)
    expected = run(twin(layer, "reference"), x, states)
    threads(count)
    found = run(layer, x, states)
    assert_close(found, expected, 1e-11)
    with torch.no_grad():
        assert torch.equal(call(layer, x, states)[0], found["y"])


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_is_the_whole_sequence(cell, norm):
    """A single step of few cases takes the weights as they are, a sequence packs them first."""
    for H, N in (7, 1), (33, 8), (300, 3), (20, 9):
        layer = make(cell, H, norm, inputs=19, dtype=torch.float32)
        x, states = noise(3, N, 19, dtype=torch.float32), states_of(layer, N, torch.float32)
        with torch.no_grad():
            whole = call(layer, x, states)[0]
            for t in range(3):
                y, *states = call(layer, x[t : t + 1], states)
                assert torch.equal(y[0], whole[t]), (H, N, t)


@pytest.mark.parametrize("cell", CELLS)
def test_float32_runs_repeat(cell):
    layer = make(cell, 37, "ln", dtype=torch.float32, bidirectional=True)
    x, states = noise(6, 5, 5, dtype=torch.float32), states_of(layer, 5, torch.float32)
    first = run(layer, x, states)
    for _ in range(3):
        assert_same_bits(run(layer, x, states), first)
