"""RNN, LSTM and GRU: without a norm against torch.nn, with one against the paper's equations (reference.py)."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from models.errors import ModelError
from models.norms import BatchNorm
from models.recurrent import CELLS, PLACEMENTS, Recurrent
from tests.helpers import reference


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=["fused", "reference"])
def backend(request, monkeypatch):
    """Everything here holds for the kernels and for the plain equations."""
    monkeypatch.setitem(Recurrent.__init__.__kwdefaults__, "backend", request.param)


T, N, D, H = 4, 3, 5, 6  # steps, cases, inputs, units
EPS = 1e-2  # large, so that its place in the equations shows
GROUPS = 3  # divides every span: H, 2H, 4H
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
OPTIONS = {
    "none": {},
    "wn": {},
    "gn": {"groups": GROUPS, "eps": EPS},
    **{norm: {"eps": EPS} for norm in ("bn", "ln", "rms")},
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(cell: str, norm: str = "none", placement: str = "paper", **settings) -> Recurrent:
    """A layer in float64 whose every parameter is random, so that no gain of 1 or shift of 0 hides a mistake."""
    options = {**OPTIONS[norm], **settings.pop("norm_options", {})}
    layer = CELLS[cell](
        settings.pop("input_size", D), H, norm=norm, norm_options=options, placement=placement, **settings
    ).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(0.8 * noise(*parameter.shape, seed=seed) + 0.1)
    return layer


def states_like(cell: str, *shape: int) -> tuple[torch.Tensor, ...]:
    """Random initial state(s): h, and c for the LSTM."""
    return tuple(noise(*shape, seed=100 + k).requires_grad_() for k in range(CELLS[cell].num_states))


def as_hx(states: tuple[torch.Tensor, ...]):
    return states if len(states) == 2 else states[0]


def as_tuple(final) -> tuple[torch.Tensor, ...]:
    return final if isinstance(final, tuple) else (final,)


def gradients(outputs: tuple[torch.Tensor, ...], leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of a random linear function of all outputs. A leaf that plays no part gets zeros."""
    loss = sum((out * noise(*out.shape, seed=200 + k)).sum() for k, out in enumerate(outputs))
    return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


def assert_same_with_gradients(given, expected, leaves, expected_leaves=None):
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    for a, b in zip(
        gradients(given, leaves),
        gradients(expected, leaves if expected_leaves is None else expected_leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, **CLOSE)


# --- without a norm: torch.nn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_state", [False, True], ids=["zero_state", "given_state"])
@pytest.mark.parametrize("layout", ["TNI", "NTI", "unbatched"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_without_norm_equals_torch(cell, num_layers, bidirectional, bias, layout, given_state):
    settings = {
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "bias": bias,
        "batch_first": layout == "NTI",
    }
    ours, torchs = make(cell, **settings), TORCH[cell](D, H, **settings).double()
    torchs.load_state_dict(ours.state_dict())
    back = CELLS[cell](D, H, **settings).double()
    back.load_state_dict(torchs.state_dict())
    rows = num_layers * (2 if bidirectional else 1)
    x = noise(*{"TNI": (T, N, D), "NTI": (N, T, D), "unbatched": (T, D)}[layout]).requires_grad_()
    states = states_like(cell, *((rows, H) if layout == "unbatched" else (rows, N, H))) if given_state else ()
    outcomes = []
    for module in (back, torchs):
        y, final = module(x, as_hx(states)) if given_state else module(x)
        assert isinstance(final, tuple) == (cell == "lstm")
        outcomes.append((y, *as_tuple(final)))
    names = [name for name, _ in torchs.named_parameters()]
    assert sorted(names) == sorted(name for name, _ in back.named_parameters())
    leaves = [[x, *states, *(module.get_parameter(name) for name in names)] for module in (back, torchs)]
    assert_same_with_gradients(*outcomes, *leaves)


@pytest.mark.parametrize("cell", CELLS)
def test_the_start_is_torchs(cell):
    """Uniform within 1/sqrt(H), and drawn in the same order: the same seed, the same layer."""
    layers = []
    for module in (CELLS[cell], TORCH[cell]):
        torch.manual_seed(0)
        layers.append(dict(module(D, H, num_layers=2).named_parameters()))
    ours, torchs = layers
    assert all(torch.equal(ours[name], torchs[name]) for name in torchs)


# --- with a norm: the equations ---------------------------------------------------------------------------------------


def norm_of(norm: str, training: bool = True) -> reference.Norm:
    """The equation of a norm at a place and a step. In evaluation BN takes row t, or the last one there is."""
    if norm == "bn" and not training:

        def bn_eval(z, place, t):
            row = min(t, len(place.running_mean) - 1)
            return reference.bn_eval(z, place.g, place.b, EPS, place.running_mean[row], place.running_var[row])

        return bn_eval
    equations: dict[str, Callable] = {"bn": reference.bn, "ln": reference.ln, "rms": reference.rms}
    if norm == "gn":
        return lambda z, place, t: reference.gn(z, place.g, place.b, EPS, GROUPS)
    return lambda z, place, t: equations[norm](z, place.g, place.b, EPS)


def norms_at(layer: Recurrent, role: str, suffix: str) -> list[nn.Module]:
    """The normalisers of one role, one for each span of units with statistics of its own."""
    module = getattr(layer, f"norm_{role}{suffix}")
    return [norm for norm in getattr(module, "norms", [module]) if list(norm.parameters())]


def places(layer: Recurrent, role: str, suffix: str) -> list[reference.Place]:
    return [
        reference.Place(
            norm.weight,
            torch.zeros_like(norm.weight) if norm.bias is None else norm.bias,
            *((norm.running_mean, norm.running_var) if isinstance(norm, BatchNorm) else ()),
        )
        for norm in norms_at(layer, role, suffix)
    ]


def weights(layer: Recurrent, suffix: str) -> reference.Weights:
    """The layer's parameters, as the equations name them."""
    matrices = []
    for name in ("weight_ih" + suffix, "weight_hh" + suffix):
        if nn.utils.parametrize.is_parametrized(layer, name):
            g, v = (getattr(layer.parametrizations, name).get_parameter(f"original{k}") for k in range(2))
            matrices.append(reference.wn_weight(v, g))
        else:
            matrices.append(layer.get_parameter(name))
    zeros = matrices[0].new_zeros(len(matrices[0]))
    biases = [getattr(layer, name + suffix) if layer.bias else zeros for name in ("bias_ih", "bias_hh")]
    by_role = {"x": "ih", "h": "hh", "sum": "sum", "c": "cell", "out": "out"}
    return reference.Weights(
        *matrices, *biases, **{place: places(layer, role, suffix) for place, role in by_role.items()}
    )


def by_the_equations(cell: str, layer: Recurrent, x: torch.Tensor, states, norm: str, placement: str):
    """All layers and directions: (y, final states) of x (T, N, I). The second direction reads x backwards."""
    placement = "plain" if norm in ("none", "wn") else placement
    directions = ("", "_reverse") if layer.bidirectional else ("",)
    finals, index = [], 0
    for k in range(layer.num_layers):
        outputs = []
        for direction in directions:
            state = tuple(state[index] for state in states)
            p = weights(layer, f"_l{k}{direction}")
            inputs = x.flip(0) if direction else x
            y, final = reference.CELLS[cell](inputs, state, p, norm_of(norm, layer.training), placement)
            outputs.append(y.flip(0) if direction else y)
            finals.append(final)
            index += 1
        x = torch.cat(outputs, -1)
    return (x, *(torch.stack(state) for state in zip(*finals, strict=True)))


CELLS_AND_PLACEMENTS = [
    (cell, placement)
    for cell, placement in itertools.product(CELLS, PLACEMENTS)
    if placement != "cell_only" or cell == "lstm"
]


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


# --- batch normalisation inside a recurrence --------------------------------------------------------------------------


def batch_norms(layer: Recurrent) -> dict[str, BatchNorm]:
    return {name: module for name, module in layer.named_modules() if isinstance(module, BatchNorm)}


BN_PLACES = {"rnn": {"norm_sum_l0"}, "lstm": {"norm_ih_l0", "norm_hh_l0", "norm_cell_l0"}}
BN_PLACES["gru"] = {f"norm_{role}_l0.norms.{span}" for role in ("ih", "hh") for span in range(2)}


@pytest.mark.parametrize("cell", CELLS)
def test_batch_norm_keeps_statistics_for_every_step(cell):
    layer = make(cell, "bn")
    x = noise(T, N, D)
    layer(x)
    norms = batch_norms(layer)
    assert set(norms) == BN_PLACES[cell]
    for name, norm in norms.items():
        assert norm.running_mean.shape == norm.running_var.shape == (T, norm.num_features), name
        different = torch.pdist(norm.running_var)
        assert different.min() > 1e-6, f"two steps of {name} share their statistics"


def test_batch_norm_statistics_of_a_step_are_those_of_its_batch():
    """input_only: the summed inputs W_x x_t are known beforehand, so each step's running row is too."""
    layer = make("lstm", "bn", "input_only")
    first, second = noise(T, N, D, seed=1), noise(2, N, D, seed=2)  # the second sequence is shorter
    layer(first)
    layer(second)
    norm = layer.norm_ih_l0
    for t in range(T):
        mean, var = torch.zeros(4 * H, dtype=torch.float64), torch.ones(4 * H, dtype=torch.float64)
        for x in (first, second):
            if t < len(x):
                mean, var = reference.bn_running(mean, var, x[t] @ layer.weight_ih_l0.T, 0.1)
        torch.testing.assert_close(norm.running_mean[t], mean, **CLOSE)
        torch.testing.assert_close(norm.running_var[t], var, **CLOSE)


@pytest.mark.parametrize("cell, placement", CELLS_AND_PLACEMENTS)
def test_batch_norm_in_evaluation_uses_the_steps_row_and_the_last_one_beyond(cell, placement):
    layer = make(cell, "bn", placement)
    for seed in range(3):
        layer(noise(3, N, D, seed=seed))
    layer.eval()
    x = noise(5, 2, D, seed=9).requires_grad_()  # two steps longer than in training
    states = states_like(cell, 1, 2, H)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    expected = by_the_equations(cell, layer, x, states, "bn", placement)
    y, final = layer(x, as_hx(states))
    assert_same_with_gradients((y, *as_tuple(final)), expected, [x, *states, *layer.parameters()])
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer(x[:, :1])[0].isfinite().all(), "one case is enough in evaluation"


def test_batch_norm_steps_of_the_backward_direction_start_at_the_end():
    """Both directions have the same weights: on a palindrome they must gather the same statistics, step for step."""
    layer = make("lstm", "bn", bidirectional=True)
    layer.load_state_dict({name: layer.state_dict()[name.replace("_reverse", "")] for name in layer.state_dict()})
    x = noise(T, N, D)
    layer(torch.cat([x, x.flip(0)[1:]]))  # a palindrome
    for role in ("ih", "hh", "cell"):
        forward, backward = (getattr(layer, f"norm_{role}_l0{direction}") for direction in ("", "_reverse"))
        torch.testing.assert_close(forward.running_mean, backward.running_mean, **CLOSE)
        torch.testing.assert_close(forward.running_var, backward.running_var, **CLOSE)


@pytest.mark.parametrize("placement", ["paper", "per_gate"])
@pytest.mark.parametrize("cell", CELLS)
def test_batch_norm_state_goes_into_a_fresh_layer(cell, placement):
    trained, fresh = make(cell, "bn", placement), make(cell, "bn", placement)
    for seed in range(3):
        trained(noise(T, N, D, seed=seed))
    fresh.load_state_dict(trained.state_dict())
    x = noise(T + 1, N, D, seed=9)
    torch.testing.assert_close(fresh.eval()(x)[0], trained.eval()(x)[0], rtol=0, atol=0)
    fresh.train()(x)  # and it grows on
    assert all(len(norm.running_mean) == T + 1 for norm in batch_norms(fresh).values())


def test_batch_norm_refuses_one_case_in_training():
    with pytest.raises(ValueError, match="two values per channel"):
        make("lstm", "bn")(noise(T, 1, D))


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
        normalised.assign(name, parameter.detach())
    x = noise(T, N, D)
    torch.testing.assert_close(normalised(x)[0], plain(x)[0], **CLOSE)
    assert len(normalised.weight_names) == 2
    for name in normalised.weight_names:  # one gain for each unit of each gate
        g = getattr(normalised.parametrizations, name).original0
        torch.testing.assert_close(g.flatten(), plain.get_parameter(name).square().sum(1).sqrt(), **CLOSE)


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
def test_packed_sequences_are_refused(cell):
    with pytest.raises(TypeError, match="packed"):
        make(cell)(pack_sequence([noise(3, D), noise(2, D)]))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(T, N, D + 1), (D,), (1, T, N, D)], ids=["features", "one_axis", "four_axes"])
def test_wrong_input_shape_is_refused(cell, shape):
    with pytest.raises(ValueError, match=r"expected \(T, N, 5\)"):
        make(cell)(noise(*shape))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(2, N, H), (1, N + 1, H), (1, N, H + 1), (1, H)], ids=str)
def test_wrong_initial_state_is_refused(cell, shape):
    with pytest.raises(ValueError, match="expected an initial state of shape"):
        make(cell)(noise(T, N, D), as_hx(states_like(cell, *shape)))
