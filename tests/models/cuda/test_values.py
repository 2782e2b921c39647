"""Values and gradients of the kernels for GPUs against the equations in a plain loop."""

import dataclasses
import itertools

import pytest
import torch

from models.recurrent import cuda
from models.recurrent.spec import GATES, Inputs, Spec, Statistics
from tests.helpers.cuda import (
    DEVICE,
    KINDS,
    QUIET_INTERPRETER,
    ROLES,
    assert_same,
    check,
    gradients,
    leaves,
    make_inputs,
    make_spec,
    reference,
)

pytestmark = QUIET_INTERPRETER

GRID = [
    (cell, kind, joined, reverse)
    for (cell, kind, joined), reverse in zip(
        itertools.product(GATES, KINDS, (False, True)), itertools.cycle((False, False, True, True)), strict=False
    )
    if not (cell == "gru" and joined)
]


@pytest.mark.parametrize(("cell", "kind", "joined", "reverse"), GRID)
def test_values_and_gradients_are_those_of_the_equations(cell, kind, joined, reverse):
    spec = make_spec(cell, kind, joined, reverse)
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("roles", [("ih",), ("hh",), ("cell",)])
def test_each_role_may_stand_alone(cell, roles):
    if roles == ("cell",):
        cell = "lstm"
    spec = make_spec(cell, "one_span", roles=roles)
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize(
    ("cell", "kind", "T", "N", "H"),
    [
        ("lstm", "one_span", 1, 1, 1),
        ("gru", "uneven", 1, 3, 7),
        ("gru", "one_span", 4, 1, 7),
        ("lstm", "one_span", 2, 3, 33),  # two blocks of cases
        ("gru", "frozen", 2, 3, 33),
        ("rnn", "batch", 2, 17, 33),  # several blocks of units
        ("lstm", "batch", 1, 3, 7),
    ],
)
def test_sizes_beside_the_tiles(cell, kind, T, N, H):
    spec = make_spec(cell, kind, H=H)
    plan = cuda.Plan(spec, T, N, H, torch.float64, torch.device(DEVICE), True)
    assert (plan.grid != (1, 1)) == (H == 33)
    check(spec, make_inputs(spec, T=T, N=N, H=H))


@pytest.mark.parametrize("cell", GATES)
def test_shifts_and_gains_may_be_missing(cell):
    spec = make_spec(cell, "one_span")
    inputs = make_inputs(spec, T=2, without=("b_ih", "b_hh", "b_cell"))
    check(spec, inputs)
    without_gains = dataclasses.replace(inputs, g_ih=None, g_hh=None, g_cell=None)
    ones = dataclasses.replace(
        inputs,
        **{name: torch.ones_like(g) for name in ("g_ih", "g_hh", "g_cell") if (g := getattr(inputs, name)) is not None},
    )
    assert_same(cuda.sequence(spec, without_gains), reference(spec, ones))


def test_a_plain_cell_may_have_a_shift():
    spec = Spec("lstm", joined=True, norm_ih=KINDS["one_span"](4, 5))
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize("kind", ["uneven", "batch"])
def test_epsilon_may_be_zero(kind):
    """Tiles have padding, whose variance is 0."""
    spec = make_spec("lstm", kind)
    norms = {f"norm_{role}": dataclasses.replace(spec.norm(role), eps=0.0) for role in ROLES}
    if kind == "uneven":  # the variance of a single value is 0 too: 0/0
        norms = {name: dataclasses.replace(norm, spans=(sum(norm.spans) - 3, 3)) for name, norm in norms.items()}
    spec = dataclasses.replace(spec, **norms)
    check(spec, make_inputs(spec, T=2))


@pytest.mark.parametrize("kind", ["one_span", "batch"])
@pytest.mark.parametrize("cell", GATES)
def test_float32_is_as_exact_as_float32_can_be(cell, kind):
    spec = make_spec(cell, kind)
    inputs = make_inputs(spec)
    single = Inputs(**{name: value.detach().float().requires_grad_() for name, value in leaves(inputs).items()})
    found, expected = cuda.sequence(spec, single), reference(spec, inputs)
    assert found[0].dtype == torch.float32
    assert_same(found, expected, rtol=1e-4, atol=1e-5)
    assert_same(gradients(found, single), gradients(expected, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_tanh_is_exact_at_every_size(dtype, digits):
    sizes = torch.tensor([0, 1e-30, 1e-8, 1e-3, 0.1, 0.62, 0.625, 0.63, 1, 5, 20, 90, 1e4, torch.inf], dtype=dtype)
    x = torch.cat([sizes, -sizes]).to(DEVICE)
    eye = torch.eye(len(x), dtype=dtype, device=DEVICE)
    norm = Statistics("frozen")  # z = 0 x; the shift is the argument
    zero = torch.zeros(1, len(x), dtype=dtype, device=DEVICE)
    inputs = Inputs(zero[None], eye, eye, zero, b_ih=x, g_ih=zero[0], frozen={"ih": (zero, zero)})
    y, *_ = cuda.sequence(Spec("rnn", True, norm), inputs)
    torch.testing.assert_close(y[0, 0], torch.tanh(x), rtol=digits, atol=0)


@pytest.mark.parametrize("cell", GATES)
def test_what_was_not_a_number_stays_none(cell):
    """One NaN at step 1 of case 1: it shows from there on, in that case, and nowhere else; its gradients are NaN."""
    spec = make_spec(cell, "one_span")
    inputs = make_inputs(spec)
    with torch.no_grad():
        inputs.x[1, 1, 0] = torch.nan
    y, h_n, c_n, _ = cuda.sequence(spec, inputs)
    lost = torch.zeros(4, 3, dtype=torch.bool)
    lost[1:, 1] = True
    assert torch.equal(y.isnan().cpu(), lost[..., None].expand_as(y))
    assert all(gradient.isnan().any() for gradient in gradients((y, h_n, c_n), inputs).values())


@pytest.mark.parametrize("kind", ["none", "batch"])
def test_a_state_that_is_not_a_number_is_lost_in_all_that_it_reaches(kind):
    spec = make_spec("lstm", kind)
    inputs = make_inputs(spec, T=2)
    with torch.no_grad():
        inputs.h0[0, 0] = torch.nan
    y, *_ = cuda.sequence(spec, inputs)
    assert y[:, 0].isnan().all()
    assert y[:, 1:].isnan().all() == (kind == "batch")
