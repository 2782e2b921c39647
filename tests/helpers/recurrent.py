"""Recurrent layers with inputs, states and gradients to compare."""

import itertools
from collections.abc import Callable

import torch
from torch import nn

from models.norms import BatchNorm
from models.recurrent import CELLS, PLACEMENTS, Recurrent
from tests.helpers import reference

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
