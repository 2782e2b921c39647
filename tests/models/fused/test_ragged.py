"""The kernels on sequences of several lengths and with resets: threads, portions of steps, memory, derivatives."""

import pytest
import torch

from models.recurrent import CELLS, cpu, dispatch, layout, pool
from models.recurrent.ragged import Ragged
from tests.helpers.fused import (
    PLACES,
    assert_close,
    assert_falls_back,
    assert_same_bits,
    call,
    gradients,
    make,
    noise,
    run,
    states_of,
    twin,
)

T, N = 23, 9
LENGTHS = [3, 21, 12, 1, 23, 7, 19, 12, 8]  # two steps with a single case


def resets(T: int, N: int) -> torch.Tensor:
    return noise(T, N, seed=9) > 1.2


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_share_the_steps_that_there_are(cell, norm, count, threads):
    """Several portions of the input's product; with and without what backward needs; the same bits again."""
    H = {"rnn": 140, "lstm": 70, "gru": 80}[cell]
    both, one = make(cell, H, norm, bidirectional=True), make(cell, H, norm, seed=1)
    assert sum(LENGTHS) * both.weight_hh_l0.numel() >= cpu.SPLIT_FROM and max(LENGTHS) > 2 * (layout.TOGETHER // N)
    x = noise(T, N, 5)
    for layer, settings in (both, {"lengths": LENGTHS}), (one, {"lengths": LENGTHS, "reset": resets(T, N)}):
        states, other = states_of(layer, N), twin(layer, "fused")
        expected = run(twin(layer, "reference"), x, states, **settings)
        threads(count)
        found = run(layer, x, states, **settings)
        assert_close(found, expected, 1e-11)
        with torch.no_grad():
            outputs = call(other, x, states, **settings)
        assert all(torch.equal(out, found[name]) for out, name in zip(outputs, ("y", "h_n", "c_n"), strict=False))
        threads(1)


def test_threads_have_about_as_many_rows_each(threads):
    """One long sequence among short ones; and more threads than sequences."""
    for lengths, count in ([60, *[5] * 12], 2), ([40, 39], 4):
        layer = make("lstm", 80, "ln")
        x, states = noise(60, len(lengths), 5), states_of(layer, len(lengths))
        threads(1)
        one = run(layer, x, states, lengths=lengths)
        threads(count)
        several = run(layer, x, states, lengths=lengths)
        assert_close(several, one, 1e-11)
        assert any(not torch.equal(several[name], one[name]) for name in one), "nothing was split"


@pytest.mark.parametrize("cell", CELLS)
def test_threads_at_different_steps_have_memory_of_their_own(cell, threads, monkeypatch):
    """Without gradients, where the steps of a portion have buffers in turn, and fewer rows than cases times steps."""
    monkeypatch.setattr(cpu, "SPLIT_FROM", 0)
    threads(3)
    layer, lengths = make(cell, 33), [4, 2, 6, 1, 1, 1, 9, 1, 7]
    x, states = noise(9, 9, 5), states_of(layer, 9)
    expected = run(layer, x, states, lengths=lengths)["y"]
    with torch.no_grad():
        assert all(torch.equal(call(layer, x, states, lengths=lengths)[0], expected) for _ in range(5))


def test_lengths_that_are_all_the_same_cost_nothing(fused_calls):
    """They run as a batch of one length does, as do resets that are none."""
    layer = make("gru", 18, "ln")
    x, states = noise(4, 3, 5), states_of(layer, 3)
    expected = run(layer, x, states)
    assert_same_bits(run(layer, x, states, lengths=[4, 4, 4]), expected)
    assert_same_bits(run(layer, x, states, reset=torch.zeros(4, 3, dtype=torch.bool)), expected)
    assert fused_calls[0] == fused_calls[1]


def test_padding_takes_no_memory(monkeypatch):
    """One sequence of 100 steps and nineteen of 5 need about a tenth of what twenty of 100 do."""
    taken = []
    monkeypatch.setattr(cpu, "take", lambda size, dtype: taken.append(size) or pool.take(size, dtype))
    layer, x, sums = make("lstm", 32, "ln"), noise(100, 20, 5), []
    for lengths in (None, [100, *[5] * 19]):
        taken.clear()
        layer(x, lengths=lengths)[0].sum().backward()
        sums.append(sum(taken))
    assert sums[1] < 0.2 * sums[0]


@pytest.mark.parametrize("norm", ["ln", "bn"])
@pytest.mark.parametrize("cell, placement", [place for place in PLACES if place[1] in ("paper", "input_only")])
def test_gradients_are_the_derivatives(cell, placement, norm):
    """torch.autograd.gradcheck with lengths and resets, by input, states and parameters."""
    layer = make(cell, 7, norm, placement)
    names, lengths, reset = list(dict(layer.named_parameters())), [2, 4, 4], resets(4, 3)
    leaves = [noise(4, 3, 5, seed=5), *states_of(layer, 3), *(p.detach() for p in layer.parameters())]
    assert reset[1:, 1].any()

    def function(x, *rest):
        states, parameters = rest[: layer.num_states], rest[layer.num_states :]
        hx = states if len(states) == 2 else states[0]
        named = dict(zip(names, parameters, strict=True))
        y, final = torch.func.functional_call(layer, named, (x, hx), {"lengths": lengths, "reset": reset})
        return (y, *final) if len(states) == 2 else (y, final)

    assert torch.autograd.gradcheck(function, [leaf.clone().requires_grad_() for leaf in leaves], fast_mode=True)


def test_a_reset_that_changes_before_the_backward_pass_is_noticed():
    layer, reset = make("gru", 18, "ln"), resets(4, 3)
    outputs = call(layer, noise(4, 3, 5), reset=reset)
    reset.logical_not_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(layer, outputs)


def test_turning_ragged_sequences_around_twice_is_nothing():
    ragged = Ragged(torch.tensor([4, 3, 3, 1]))
    rows = torch.arange(11)
    assert ragged.lengths.tolist() == [4, 3, 3, 1]
    assert ragged.flip(rows).tolist() == [10, 8, 9, 3, 7, 5, 6, 4, 1, 2, 0]
    assert torch.equal(ragged.flip(ragged.flip(rows)), rows)


# --- forward again instead of memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_recomputing_gives_the_same_bits(cell, placement, norm):
    """Running statistics move once; a retained graph gives the same again."""
    kept = make(cell, 18, norm, placement, num_layers=2)
    again = twin(kept, "fused")
    again.recompute = True
    x, states = noise(T, N, 5), states_of(kept, N)
    for settings in {}, {"lengths": LENGTHS, "reset": resets(T, N)}:
        assert_same_bits(run(again, x, states, **settings), run(kept, x, states, **settings))
    assert_same_bits(again.state_dict(), kept.state_dict())
    outputs = call(again, x, states)
    first = gradients(again, outputs, retain_graph=True)
    for a, b in zip(gradients(again, outputs), first, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_recomputing_keeps_the_outputs_alone(empty_pool):
    """Between the passes; without it the gates of all steps too."""
    lent = {}
    for recompute in (False, True):
        outputs = call(make("lstm", 32, "ln", recompute=recompute), noise(100, 8, 5))
        lent[recompute] = empty_pool.lent_bytes
        del outputs
    outputs_alone = 101 * 8 * 32 * 8
    assert outputs_alone <= lent[True] < 1.25 * outputs_alone < 10 * outputs_alone < lent[False]


def test_recomputing_is_of_the_kernel():
    with pytest.raises(ValueError, match=r"recompute=True.*torch\.utils\.checkpoint"):
        CELLS["lstm"](3, 4, backend="reference", recompute=True)


# --- sizes ------------------------------------------------------------------------------------------------------------

TOO_LARGE = {
    "rows": ((1 << 16, 1 << 15, 3), 4),
    "inputs": ((1, 1, (1 << 30) + 1), 4),
    "units": ((1, 1 << 15, 3), 1 << 16),
}


@pytest.mark.parametrize("shape, units", TOO_LARGE.values(), ids=TOO_LARGE)
def test_sizes_beyond_32_bits_are_refused(shape, units):
    """By their shapes: the tensors have the memory of one value."""
    one = torch.zeros(())
    x, state = one.expand(shape), one.expand(shape[1], units)
    norm = make("rnn", 4).norm_ih_l0
    weights = one.expand(units, shape[2]), one.expand(units, units)
    reason = dispatch.obstacle(x, (state, *weights), dispatch.Norms(norm, norm, norm, norm, norm))
    assert reason and str(dispatch.LARGEST) in reason and "\n" not in reason


def test_a_layer_names_the_size_that_is_too_large(fused_calls):
    layer = CELLS["rnn"](3, 4, backend="fused")
    with pytest.raises(ValueError, match=rf"to {dispatch.LARGEST}, not {1 << 31}, 3, 131072"):
        layer(torch.zeros(()).expand(1 << 16, 1 << 15, 3))
    assert not fused_calls


def test_gpus_have_none_of_it(monkeypatch, fused_calls):
    """auto takes the equations there. The device is a stand-in: the question comes before any kernel."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert_falls_back(make("gru", 8, "ln", recompute=True), noise(3, 2, 5), fused_calls, "CUDA have no lengths")
