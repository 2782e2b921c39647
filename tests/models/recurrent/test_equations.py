"""With a norm the layers compute the paper's equations, also for a sequence that comes in pieces."""

import copy

import pytest
import torch
from torch import nn

from models.recurrent import CELLS, PLACEMENTS
from tests.helpers import reference
from tests.helpers.recurrent import (
    CELLS_AND_PLACEMENTS,
    CLOSE,
    EPS,
    OPTIONS,
    D,
    H,
    N,
    T,
    as_hx,
    as_tuple,
    assert_same_with_gradients,
    by_the_equations,
    make,
    noise,
    norms_at,
    states_like,
)

# --- with a norm: the equations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_norms_without_a_place_equal_the_equations_whatever_the_placement(cell, norm):
    layer = make(cell, norm)
    x = noise(T, N, D).requires_grad_()
    states = states_like(cell, 1, N, H)
    expected = by_the_equations(cell, layer, x, states, norm, "plain")
    y, final = layer(x, as_hx(states))
    assert_same_with_gradients((y, *as_tuple(final)), expected, [x, *states, *layer.parameters()])
    for placement in PLACEMENTS:
        assert torch.equal(make(cell, norm, placement)(x, as_hx(states))[0], y)


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "rms"])
@pytest.mark.parametrize("cell, placement", CELLS_AND_PLACEMENTS)
def test_values_and_gradients_equal_the_equations(cell, placement, norm):
    layer = make(cell, norm, placement)
    x = noise(T, N, D).requires_grad_()
    states = states_like(cell, 1, N, H)
    expected = by_the_equations(cell, layer, x, states, norm, placement)
    y, final = layer(x, as_hx(states))
    assert_same_with_gradients((y, *as_tuple(final)), expected, [x, *states, *layer.parameters()])


@pytest.mark.parametrize("norm", ["bn", "ln", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_two_layers_both_ways_equal_the_equations(cell, norm):
    layer = make(cell, norm, num_layers=2, bidirectional=True, bias=norm != "ln")
    x = noise(3, N, D).requires_grad_()
    states = states_like(cell, 4, N, H)
    expected = by_the_equations(cell, layer, x, states, norm, "paper")
    y, final = layer(x, as_hx(states))
    assert_same_with_gradients((y, *as_tuple(final)), expected, [x, *states, *layer.parameters()])


@pytest.mark.parametrize("norm", ["bn", "ln", "rms"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_joint_statistics_differ_from_those_per_gate(cell, norm):
    """LN and RMS pool over units, so the span matters; BN pools over cases, so it does not."""
    outputs = []
    for placement in ("paper", "per_gate"):
        layer = CELLS[cell](D, H, norm=norm, placement=placement).double()
        with torch.no_grad():
            for seed, (name, parameter) in enumerate(layer.named_parameters(recurse=False)):
                parameter.copy_(noise(*parameter.shape, seed=seed) * (3 if name.startswith("weight") else 1))
        outputs.append(layer(noise(T, N, D))[0])
    different = (outputs[0] - outputs[1]).abs().max()
    assert different < 1e-12 if norm == "bn" else different > 1e-2


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", CELLS)
def test_layouts_agree(cell, norm):
    """batch_first transposes, and one sequence without a batch axis is a batch of one."""
    layer = make(cell, norm)
    x, states = noise(T, N, D), states_like(cell, 1, N, H)
    y, final = layer(x, as_hx(states))
    layer.batch_first = True
    y_first, final_first = layer(x.transpose(0, 1), as_hx(states))
    torch.testing.assert_close(y_first.transpose(0, 1), y, **CLOSE)
    layer.batch_first = False
    y_one, final_one = layer(x[:, 1], as_hx(tuple(state[:, 1] for state in states)))
    torch.testing.assert_close(y_one, y[:, 1], **CLOSE)
    for state, same, one in zip(*map(as_tuple, (final, final_first, final_one)), strict=True):
        torch.testing.assert_close(same, state, **CLOSE)
        torch.testing.assert_close(one, state[:, 1], **CLOSE)


@pytest.mark.parametrize("norm", ["none", "ln", "gn", "rms", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_may_be_cut_and_its_state_handed_on(cell, norm):
    layer = make(cell, norm, num_layers=2)
    x = noise(T, N, D)
    y, final = layer(x)
    y_1, carried = layer(x[:2])
    y_2, final_2 = layer(x[2:], carried)
    torch.testing.assert_close(torch.cat([y_1, y_2]), y, **CLOSE)
    for a, b in zip(as_tuple(final_2), as_tuple(final), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "rms"])
@pytest.mark.parametrize("placement", ["paper", "per_gate", "cell_only"])
def test_lstm_carries_the_raw_cell(placement, norm):
    """Eq. 21: c_t follows from the gates and c_{t-1} alone; LN(c_t) reaches only h_t (eq. 22)."""
    layer = make("lstm", norm, placement)
    (h, c), x = states_like("lstm", 1, N, H), noise(1, N, D)
    with torch.no_grad():
        y, (h_1, c_1) = layer(x, (h, c))
        for normaliser in norms_at(layer, "cell", "_l0"):
            normaliser.weight.mul_(-3)
            normaliser.bias.add_(2)
        y_other, (_, c_other) = layer(x, (h, c))
        assert torch.equal(c_1, c_other), "the carried cell must not depend on the cell's normaliser"
        assert (y - y_other).abs().max() > 0.1
        assert torch.equal(y[0], h_1[0])
        if placement == "cell_only":  # the gates are plain, so torch's own cell must carry the same c
            plain = nn.LSTM(D, H).double()
            plain.load_state_dict({name: layer.state_dict()[name] for name in plain.state_dict()})
            torch.testing.assert_close(c_1, plain(x, (h, c))[1][1], **CLOSE)


def test_between_layers_normalises_outputs_and_carries_the_plain_state():
    layer, plain = make("lstm", "ln", "between_layers"), nn.LSTM(D, H).double()
    plain.load_state_dict({name: layer.state_dict()[name] for name in plain.state_dict()})
    x = noise(T, N, D)
    (y, final), (y_plain, final_plain) = layer(x), plain(x)
    for a, b in zip(final, final_plain, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    g, b = layer.norm_out_l0.weight, layer.norm_out_l0.bias
    expected = torch.stack([reference.ln(h, g, b, EPS) for h in y_plain])
    torch.testing.assert_close(y, expected, **CLOSE)


# --- a sequence in pieces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("norm", OPTIONS)
@pytest.mark.parametrize("cell, placement", CELLS_AND_PLACEMENTS)
def test_a_sequence_in_pieces_gives_what_the_whole_gives(cell, placement, norm, mode):
    """One step, then three, two of them beyond the steps of training: outputs, states and running statistics."""
    whole = make(cell, norm, placement, num_layers=2)
    whole(noise(2, N, D, seed=1))
    whole.train(mode == "training")
    pieces = copy.deepcopy(whole)
    x, states = noise(T, N, D), states_like(cell, 2, N, H)
    expected, expected_final = whole(x, as_hx(states))
    first, state = pieces(x[:1], as_hx(states))
    rest, final = pieces(x[1:], state, start=1)
    torch.testing.assert_close(torch.cat([first, rest]), expected, **CLOSE)
    torch.testing.assert_close(as_tuple(final), as_tuple(expected_final), **CLOSE)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], value, **CLOSE)
    if norm == "bn" and placement == "paper" and mode == "evaluation":
        assert not torch.allclose(pieces(x[1:], state)[0], rest), "the comparison must be able to fail"


def test_a_bidirectional_layer_takes_no_pieces():
    layer = make("gru", bidirectional=True)
    with pytest.raises(ValueError, match="whole sequence"):
        layer(noise(T, N, D), start=1)
