"""Sequences of several lengths, padded or packed, and states that are reset inside a sequence."""

import copy
import itertools

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models import ranks
from models.recurrent import CELLS
from tests.helpers import reference
from tests.helpers.recurrent import (
    CELLS_AND_PLACEMENTS,
    CLOSE,
    EPS,
    TORCH,
    D,
    H,
    as_hx,
    as_tuple,
    assert_same_with_gradients,
    make,
    noise,
    norm_of,
    norms_at,
    states_like,
    weights,
)

LENGTHS = [2, 5, 1, 3, 3, 3]  # two steps with a single case
T, N = max(LENGTHS), len(LENGTHS)


def padded(value: float = 0.0) -> torch.Tensor:
    """Inputs (T, N, D) with `value` past each sequence's end."""
    x = noise(T, N, D)
    for n, length in enumerate(LENGTHS):
        x[length:, n] = value
    return x.requires_grad_()


def one_by_one(layer, x, states, resets=()):
    """(y, final states): each case by itself, in pieces between its resets, which start from zero states."""
    ys, finals = [], []
    for n, length in enumerate(LENGTHS):
        state = tuple(state[:, n : n + 1] for state in states)
        edges = sorted({0, length, *(t for t, case in resets if case == n and t < length)})
        pieces = []
        for first, end in itertools.pairwise(edges):
            if (first, n) in resets:
                state = tuple(torch.zeros_like(each) for each in state)
            y, final = layer(x[first:end, n : n + 1], as_hx(state))
            state = as_tuple(final)
            pieces.append(y)
        y = torch.cat(pieces)
        ys.append(torch.cat([y, y.new_zeros(T - length, *y.shape[1:])]))
        finals.append(state)
    return (torch.cat(ys, 1), *(torch.cat(each, 1) for each in zip(*finals, strict=True)))


def called(layer, x, states, **settings) -> tuple[torch.Tensor, ...]:
    y, final = layer(x, as_hx(states), **settings)
    return (y, *as_tuple(final))


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, placement, norm",
    [(*place, "ln") for place in CELLS_AND_PLACEMENTS]
    + [(cell, "paper", norm) for cell in CELLS for norm in ("none", "wn", "gn", "rms")],
)
def test_each_sequence_runs_as_if_it_were_alone(cell, placement, norm):
    """Two layers in both directions: values, final states and gradients, with padding of NaN that nobody sees."""
    layer = make(cell, norm, placement, num_layers=2, bidirectional=True)
    x, states = padded(torch.nan), states_like(cell, 4, N, H)
    found = called(layer, x, states, lengths=LENGTHS)
    expected = one_by_one(layer, x, states)
    assert_same_with_gradients(found, expected, [x, *states, *layer.parameters()])
    (gradient,) = torch.autograd.grad(called(layer, x, states, lengths=LENGTHS)[0].square().sum(), x)
    for n, length in enumerate(LENGTHS):
        assert not found[0][length:, n].any() and not gradient[length:, n].any(), "padding plays no part"


@pytest.mark.parametrize("sort", [True, False], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("cell", CELLS)
def test_packed_sequences_are_torchs(cell, sort):
    """Without a norm: data, batch_sizes, indices, states and gradients."""
    settings = {"num_layers": 2, "bidirectional": True}
    ours, theirs = make(cell, **settings), TORCH[cell](D, H, **settings).double()
    theirs.load_state_dict(ours.state_dict())
    lengths = sorted(LENGTHS, reverse=True) if sort else LENGTHS
    packed, states = pack_padded_sequence(noise(T, N, D), lengths, enforce_sorted=sort), states_like(cell, 4, N, H)
    rows = packed.data.requires_grad_()
    outcomes = []
    for layer in (ours, theirs):
        for given in ((packed, as_hx(states)), (packed,)):
            y, final = layer(*given)
            assert isinstance(y, PackedSequence)
            outcomes.append((y, (y.data, *as_tuple(final))))
    names = [name for name, _ in theirs.named_parameters()]
    leaves = [[rows, *states, *map(layer.get_parameter, names)] for layer in (ours, theirs)]
    for (y, found), (expected_y, expected) in zip(outcomes[:2], outcomes[2:], strict=True):
        assert_same_with_gradients(found, expected, *leaves)
        for a, b in zip(y[1:], expected_y[1:], strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [LENGTHS, [3] * N, [T] * N], ids=["several", "one", "whole"])
def test_lengths_are_those_of_a_packed_sequence(lengths, batch_first):
    layer = make("lstm", "ln", num_layers=2, batch_first=batch_first)
    x, states = noise(*((N, T, D) if batch_first else (T, N, D))), states_like("lstm", 2, N, H)
    packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
    y, expected = layer(packed, states)
    y, _ = pad_packed_sequence(y, batch_first, total_length=T)
    for given in (lengths, torch.tensor(lengths), torch.tensor(lengths, dtype=torch.int32)):
        found, final = layer(x, states, lengths=given)
        torch.testing.assert_close(found, y, **CLOSE)
        torch.testing.assert_close(final, expected, **CLOSE)


def test_dropout_falls_on_the_steps_that_there_are():
    """With a probability of 1 the second layer reads zeros, also of sequences of several lengths."""
    dropped = make("gru", "ln", num_layers=2, dropout=1.0)
    upper = make("gru", "ln", input_size=H)
    upper.load_state_dict({k.replace("_l1", "_l0"): v for k, v in dropped.state_dict().items() if "_l1" in k})
    expected = upper(torch.zeros(T, N, H, dtype=torch.float64), lengths=LENGTHS)[0]
    torch.testing.assert_close(dropped(padded(), lengths=LENGTHS)[0], expected, **CLOSE)


REFUSED = {
    "too_long": ([2, 6, 1, 3, 3, 3], ValueError, r"lengths\[1\]=6.*at most 5"),
    "zero": ([2, 5, 0, 3, 3, 3], ValueError, r"lengths\[2\]=0.*at least 1"),
    "too_few": ([2, 5], ValueError, r"each of 6 sequences.*\(2,\)"),
    "floats": ([2.0, 5.0, 1.0, 3.0, 3.0, 3.0], TypeError, "integers"),
    "a_mask": (torch.ones(N, dtype=torch.bool), TypeError, "integers"),
}


@pytest.mark.parametrize("lengths, error, message", REFUSED.values(), ids=REFUSED)
def test_lengths_that_are_none_are_refused(lengths, error, message):
    with pytest.raises(error, match=message) as caught:
        make("rnn")(padded(), lengths=lengths)
    assert "\n" not in str(caught.value)


def test_wrong_packed_sequences_and_states_are_refused():
    layer, packed = make("gru"), pack_padded_sequence(padded(), LENGTHS, enforce_sorted=False)
    with pytest.raises(ValueError, match="leave them out"):
        layer(packed, lengths=LENGTHS)
    with pytest.raises(ValueError, match="packed rows of 5 inputs"):
        layer(packed._replace(data=packed.data[..., None]))
    with pytest.raises(RuntimeError, match="expected"):
        layer(packed._replace(data=packed.data[:, 1:]))
    with pytest.raises(RuntimeError, match="expected an initial state of shape"):
        layer(packed, torch.zeros(1, N + 1, H, dtype=torch.float64))


# --- batch statistics -------------------------------------------------------------------------------------------------


def step_by_step(cell, layer, x, states, norm, placement, resets=(), lengths=LENGTHS):
    """The equations over one step after another, each with the cases that are running; of one layer.

    A single case takes the running statistics. Also returns the summed inputs W_x x of each step with a batch.
    """
    p, outputs = weights(layer, "_l0"), x.new_zeros(T, N, H)
    state = [list(each[0].unbind(0)) for each in states]
    seen = []
    for t in range(T):
        running = [n for n in range(N) if t < lengths[n]]
        equation = norm_of(norm, training=len(running) > 1)
        before = tuple(
            torch.stack([torch.zeros_like(each[n]) if (t, n) in resets else each[n] for n in running]) for each in state
        )
        y, after = reference.CELLS[cell](
            x[t : t + 1, running], before, p, lambda z, place, _, f=equation, t=t: f(z, place, t), placement
        )
        outputs = outputs.index_put((torch.tensor(t), torch.tensor(running)), y[0])
        for each, new in zip(state, after, strict=True):
            for n, value in zip(running, new, strict=True):
                each[n] = value
        if len(running) > 1:
            seen.append(x[t, running] @ p.W_x.T)
    return (outputs, *(torch.stack(each)[None] for each in state)), seen


@pytest.mark.parametrize("cell, placement", CELLS_AND_PLACEMENTS)
def test_batch_statistics_are_over_the_cases_that_run(cell, placement):
    layer = make(cell, "bn", placement)
    layer(noise(T - 1, N, D, seed=7))  # running statistics of all steps but the last
    x, states = padded(torch.nan), states_like(cell, 1, N, H)
    expected, seen = step_by_step(cell, layer, x, states, "bn", placement)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    found = called(layer, x, states, lengths=LENGTHS)
    assert_same_with_gradients(found, expected, [x, *states, *layer.parameters()])
    for norm in norms_at(layer, "ih", "_l0")[:1] if placement == "input_only" and cell != "gru" else []:
        for t in range(T):
            rows = before["norm_ih_l0.running_mean"], before["norm_ih_l0.running_var"]
            row = [each[min(t, T - 2)] for each in rows]
            if t < len(seen):
                row = reference.bn_running(*row, seen[t], 0.1)
            if t < T - 1:
                torch.testing.assert_close(norm.running_mean[t], row[0], **CLOSE)
                torch.testing.assert_close(norm.running_var[t], row[1], **CLOSE)
        assert len(norm.running_mean) == T - 1, "a step with a single case moves nothing"


@pytest.mark.parametrize("options", [{}, {"unbiased": True}], ids=["biased", "unbiased"])
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_second_direction_starts_at_each_sequences_end(cell, mode, options):
    """A layer in both directions is two layers, the second of which reads each sequence backwards."""
    both = make(cell, "bn", bidirectional=True, norm_options=options)
    both(noise(T, N, D, seed=7))
    forward, backward = make(cell, "bn", norm_options=options), make(cell, "bn", norm_options=options)
    own = both.state_dict()
    forward.load_state_dict({name: own[name] for name in forward.state_dict()})
    backward.load_state_dict({name: own[name.replace("_l0", "_l0_reverse")] for name in backward.state_dict()})
    x = noise(T, N, D)
    turned = x.clone()
    for n, length in enumerate(LENGTHS):
        turned[:length, n] = x[:length, n].flip(0)
    for layer in (both, forward, backward):
        layer.train(mode == "training")
    y, final = both(x, lengths=LENGTHS)
    y_forward, final_forward = forward(x, lengths=LENGTHS)
    y_backward, final_backward = backward(turned, lengths=LENGTHS)
    for n, length in enumerate(LENGTHS):
        y_backward[:length, n] = y_backward[:length, n].flip(0)
    torch.testing.assert_close(y, torch.cat([y_forward, y_backward], -1), **CLOSE)
    for each, *parts in zip(*map(as_tuple, (final, final_forward, final_backward)), strict=True):
        torch.testing.assert_close(each, torch.cat(parts), **CLOSE)
    for name, value in backward.state_dict().items():
        torch.testing.assert_close(both.state_dict()[name.replace("_l0", "_l0_reverse")], value, **CLOSE)


def test_the_unbiased_variance_counts_the_cases_of_its_step():
    """input_only: g (z - mean) / sqrt(var + eps) of W_x x at a step, the variance over n - 1 of its n cases."""
    layer = make("rnn", "bn", "input_only", norm_options={"unbiased": True})
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    x = noise(T, N, D)
    y = layer(x, lengths=LENGTHS)[0]
    for t in range(3):
        running = [n for n in range(N) if t < LENGTHS[n]]
        z = x[t, running] @ layer.weight_ih_l0.T
        bias = layer.bias_ih_l0 + layer.bias_hh_l0
        expected = torch.tanh(reference.bn(z, layer.norm_ih_l0.weight, bias, EPS, unbiased=True))
        torch.testing.assert_close(y[t, running], expected, **CLOSE)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_ragged_sequences_may_come_in_pieces(mode):
    """The second piece has the sequences that are not over: outputs, states and running statistics of the whole."""
    whole = make("lstm", "bn")
    whole(noise(T, N, D, seed=7))
    whole.train(mode == "training")
    pieces = copy.deepcopy(whole)
    x, lengths = noise(T, N, D), torch.tensor(LENGTHS)
    y, (h, c) = whole(x, lengths=LENGTHS)
    first, states = pieces(x[:2], lengths=lengths.clamp_max(2))
    left = lengths > 2
    rest, (h_rest, c_rest) = pieces(x[2:, left], tuple(s[:, left] for s in states), 2, lengths=lengths[left] - 2)
    torch.testing.assert_close(first, y[:2], **CLOSE)
    torch.testing.assert_close(rest, y[2:, left], **CLOSE)
    torch.testing.assert_close((h_rest, c_rest), (h[:, left], c[:, left]), **CLOSE)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], value, **CLOSE)


def test_batch_statistics_over_ranks_need_one_length(monkeypatch):
    """Each rank would wait for the others at every step, and they have steps of their own."""
    monkeypatch.setattr(ranks, "is_distributed", lambda: True)
    with pytest.raises(ValueError, match="ranks need sequences of one length") as caught:
        make("gru", "bn")(padded(), lengths=LENGTHS)
    assert "\n" not in str(caught.value)
    assert make("gru", "bn").eval()(padded(), lengths=LENGTHS)[0].isfinite().all()


# --- reset ------------------------------------------------------------------------------------------------------------

RESETS = {(0, 1), (2, 1), (4, 1), (1, 0), (2, 3), (4, 3), (0, 4), (1, 4)}  # step, case; one of them past the end


def mask(resets) -> torch.Tensor:
    reset = torch.zeros(T, N, dtype=torch.bool)
    for t, n in resets:
        reset[t, n] = True
    return reset


@pytest.mark.parametrize(
    "cell, placement, norm",
    [(cell, "paper", norm) for cell in CELLS for norm in ("none", "ln")] + [("lstm", "between_layers", "rms")],
)
def test_a_reset_starts_a_new_sequence(cell, placement, norm):
    """With sequences of several lengths: as if the pieces ran apart, so that no gradient flows across."""
    layer = make(cell, norm, placement, num_layers=2)
    x, states = padded(torch.nan), states_like(cell, 2, N, H)
    found = called(layer, x, states, lengths=LENGTHS, reset=mask(RESETS))
    expected = one_by_one(layer, x, states, RESETS)
    assert_same_with_gradients(found, expected, [x, *states, *layer.parameters()])
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    y, final = layer(packed, as_hx(states), reset=mask(RESETS))
    torch.testing.assert_close(y.data, pack_padded_sequence(found[0], LENGTHS, enforce_sorted=False).data, **CLOSE)
    torch.testing.assert_close(as_tuple(final), found[1:], **CLOSE)


@pytest.mark.parametrize("cell", CELLS)
def test_resets_in_a_batch_of_one_length(cell):
    """The states alone start anew: batch statistics are those of the step, counted from the first one on."""
    layer = make(cell, "bn")
    x, states = noise(T, N, D).requires_grad_(), states_like(cell, 1, N, H)
    expected, _ = step_by_step(cell, layer, x, states, "bn", "paper", RESETS, lengths=[T] * N)
    found = called(layer, x, states, reset=mask(RESETS))
    assert_same_with_gradients(found, expected, [x, *states, *layer.parameters()])


def test_resets_of_other_layouts():
    layer = make("gru", "ln")
    x, reset = noise(T, N, D), mask(RESETS)
    y = layer(x, reset=reset)[0]
    one = layer(x[:, 1], reset=reset[:, 1])[0]
    torch.testing.assert_close(one, y[:, 1], **CLOSE)
    assert torch.equal(layer(x, reset=reset.tolist())[0], y)
    layer.batch_first = True
    torch.testing.assert_close(layer(x.transpose(0, 1), reset=reset.t())[0].transpose(0, 1), y, **CLOSE)


@pytest.mark.parametrize("settings", [{}, {"bidirectional": True}], ids=["forward", "both_ways"])
@pytest.mark.parametrize("reset", [torch.zeros(T, N), torch.zeros(N, T + 1, dtype=torch.bool)], ids=["type", "shape"])
def test_wrong_resets_are_refused(reset, settings):
    with pytest.raises(ValueError, match="whole sequence" if settings else r"bool and shape \(5, 6\)") as caught:
        make("rnn", **settings)(padded(), reset=reset)
    assert "\n" not in str(caught.value)
