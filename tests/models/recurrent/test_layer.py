"""Initial weights, dropout and refusals of the recurrent layers."""

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.recurrent import CELLS, GRU, LSTM, PLACEMENTS
from tests.helpers.recurrent import CELLS_AND_PLACEMENTS, CLOSE, GROUPS, D, H, N, T, as_hx, make, noise, states_like

# --- start ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm, gain", [("bn", 0.1), ("ln", 1.0), ("gn", 1.0), ("rms", 1.0)])
@pytest.mark.parametrize("cell", CELLS)
def test_gains_start_where_they_should(cell, norm, gain):
    """0.1 for recurrent batch normalisation (Cooijmans et al. 2016, section 4), 1 for the others; an option wins."""
    for given, expected in ({}, gain), ({"gain": None}, gain), ({"gain": 0.3}, 0.3):
        options = {**({"groups": GROUPS} if norm == "gn" else {}), **given}
        layer = CELLS[cell](D, H, norm=norm, norm_options=options)
        gains = [p for name, p in layer.named_parameters() if name.startswith("norm_") and name.endswith(".weight")]
        assert sum(map(len, gains)) == {"rnn": H, "lstm": 9 * H, "gru": 6 * H}[cell]
        for g in gains:
            assert torch.equal(g, torch.full_like(g, expected))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("cell, placement", CELLS_AND_PLACEMENTS)
def test_shifts_stand_where_the_layer_has_no_bias_of_its_own(cell, placement, bias):
    """The biases b_ih, b_hh are the gates' shifts; LN(c) and a normalised output have a shift unless bias=False."""
    layer = CELLS[cell](D, H, bias=bias, norm="ln", placement=placement)
    shifts = {name for name, _ in layer.named_parameters() if name.startswith("norm_") and name.endswith("bias")}
    expected = set()
    if bias and placement == "between_layers":
        expected = {"norm_out_l0.bias"}
    elif bias and cell == "lstm" and placement in ("paper", "per_gate", "cell_only"):
        expected = {"norm_cell_l0.bias"}
    assert shifts == expected


@pytest.mark.parametrize("cell", CELLS)
def test_weight_norm_leaves_the_function_unchanged_at_the_start(cell):
    plain, normalised = CELLS[cell](D, H).double(), CELLS[cell](D, H, norm="wn").double()
    for name, parameter in plain.named_parameters():
        normalised.assign(name, parameter)
    x = noise(T, N, D)
    expected = plain(x)[0]
    torch.testing.assert_close(normalised(x)[0], expected, **CLOSE)
    assert len(normalised.weight_names) == 2
    for name in normalised.weight_names:  # one gain for each unit of each gate
        g = getattr(normalised.parametrizations, name).original0
        torch.testing.assert_close(g.flatten(), plain.get_parameter(name).square().sum(1).sqrt(), **CLOSE)
    with torch.no_grad():
        for parameter in normalised.parameters():
            parameter.zero_()
    assert torch.equal(plain(x)[0], expected), "the values are copied"


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_is_between_layers_and_only_in_training(cell, norm):
    """With probability 1 the second layer sees zeros in training; in evaluation nothing is dropped."""
    all_dropped, none_dropped = (make(cell, norm, num_layers=2, dropout=p) for p in (1.0, 0.0))
    upper = make(cell, norm, input_size=H)
    state = {name.replace("_l1", "_l0"): value for name, value in all_dropped.state_dict().items() if "_l1" in name}
    upper.load_state_dict(state)
    x = noise(T, N, D)
    torch.testing.assert_close(all_dropped(x)[0], upper(torch.zeros(T, N, H, dtype=x.dtype))[0], **CLOSE)
    assert torch.equal(all_dropped.eval()(x)[0], none_dropped(x)[0])
    with pytest.warns(UserWarning, match="num_layers=1"):
        single, plain = make(cell, norm, dropout=1.0), make(cell, norm)
    assert torch.equal(single(x)[0], plain(x)[0]), "a single layer has nothing below to drop"


def test_dropout_probability_between_the_layers(monkeypatch):
    seen, dropout = [], nn.functional.dropout
    monkeypatch.setattr(nn.functional, "dropout", lambda *args: seen.append(dropout(*args)) or seen[-1])
    torch.manual_seed(0)
    make("rnn", num_layers=2, dropout=0.25)(noise(50, 40, D))
    (dropped,) = seen  # once: between the two layers
    assert abs((dropped == 0).double().mean() - 0.25) < 0.02


# --- refusals ---------------------------------------------------------------------------------------------------------


REFUSED = {
    "in": ("lstm", {"norm": "in"}, ["norm=in", "no positions", "norm=ln"]),
    "cell_only_rnn": ("rnn", {"norm": "ln", "placement": "cell_only"}, ["cell_only", "RNN", "LSTM"]),
    "cell_only_gru": ("gru", {"norm": "bn", "placement": "cell_only"}, ["cell_only", "GRU", "LSTM"]),
    "unknown_placement": ("lstm", {"norm": "ln", "placement": "after"}, ["model.placement=after", *PLACEMENTS]),
    "unknown_placement_without_norm": ("lstm", {"placement": "after"}, ["model.placement=after"]),
    "unknown_norm": ("gru", {"norm": "lm"}, ["norm=lm", "nearest"]),
    "unknown_option": ("gru", {"norm": "ln", "norm_options": {"groups": 2}}, ["norm=ln", "groups"]),
    "option_of_wn": ("rnn", {"norm": "wn", "norm_options": {"eps": 0.1}}, ["norm=wn", "eps", "data_init"]),
    "option_of_none": ("rnn", {"norm_options": {"eps": 0.1}}, ["norm=none", "eps"]),
    "groups": ("lstm", {"norm": "gn", "norm_options": {"groups": 4}}, ["norm.groups=4", "6 channels"]),
    "data_init": ("rnn", {"norm": "wn", "norm_options": {"data_init": True}}, ["norm.data_init"]),
}


@pytest.mark.parametrize("cell, settings, parts", REFUSED.values(), ids=REFUSED)
def test_impossible_layer_is_refused_in_one_line(cell, settings, parts):
    with pytest.raises(ModelError) as caught:
        CELLS[cell](D, H, **settings)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(T, N, D + 1), (D,), (1, T, N, D)], ids=["features", "one_axis", "four_axes"])
def test_wrong_input_shape_is_refused(cell, shape):
    with pytest.raises((ValueError, RuntimeError), match=r"expected \(T, N, 5\)"):
        make(cell)(noise(*shape))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(2, N, H), (1, N + 1, H), (1, N, H + 1), (1, H)], ids=str)
def test_wrong_initial_state_is_refused(cell, shape):
    with pytest.raises(RuntimeError, match="expected an initial state of shape"):
        make(cell)(noise(T, N, D), as_hx(states_like(cell, *shape)))


@pytest.mark.parametrize("shape", [(T, N, D), (T, D)], ids=["batch", "one sequence"])
def test_a_third_state_is_refused(shape):
    """torch.nn.LSTM leaves it out for one sequence."""
    with pytest.raises(RuntimeError, match=r"a pair of states, \(h, c\); got 3"):
        make("lstm")(noise(*shape), (noise(1, N, H),) * 3)


# --- printing ---------------------------------------------------------------------------------------------------------


def test_print_tells_sizes_and_what_differs_from_the_defaults():
    lines = str(LSTM(10, 20, norm="ln", backend="auto")).splitlines()
    assert lines[1].strip() == "10, 20, norm=ln" and "(norm_ih_l0): LayerNorm(80, eps=1e-05, bias=False)" in lines[2]
    layer = GRU(10, 20, num_layers=2, batch_first=True, norm="gn", norm_options={"groups": 2}, backend="reference")
    expected = "10, 20, num_layers=2, batch_first=True, norm=gn, norm_options={'groups': 2}, backend=reference"
    assert expected in str(layer)
