"""Outputs and gradients of the fused kernels against the equations, by size, number and kind."""

import itertools

import pytest
import torch

from models.recurrent import CELLS, cpu
from tests.helpers.fused import PLACES, assert_close, call, identity_of_inputs, make, noise, run, states_of, twin

# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "ln", "gn", "rms", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_as_accurate_as_the_plain_loop(cell, norm):
    """The largest error of every output and gradient against float64, a geometric mean over some seeds."""
    seeds, worst = 6, {"fused": {}, "reference": {}}
    for seed in range(seeds):
        options = {"groups": 5} if norm == "gn" else {}
        layer = make(cell, 65, norm, inputs=20, seed=seed, dtype=torch.float32, options=options)
        x, states = noise(30, 8, 20, seed=seed, dtype=torch.float32), states_of(layer, 8, torch.float32, seed)
        exact = run(twin(layer, "reference", torch.float64), x.double(), [state.double() for state in states])
        for backend, errors in worst.items():
            for name, value in run(twin(layer, backend), x, states).items():
                error = (value.double() - exact[name]).abs().max() / exact[name].abs().max()
                errors[name] = errors.get(name, 1.0) * max(error.item(), 1e-9) ** (1 / seeds)
    for name, plain in worst["reference"].items():
        assert worst["fused"][name] <= 2 * plain + 2e-7, f"{name}: {worst['fused'][name]:.1e}, the loop {plain:.1e}"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("T, N", [(35, 20), (64, 16), (3, 2)])
def test_the_sum_of_the_recurrent_weights_gradient_rounds_at_most_twice_as_much_as_a_loop(T, N, count, threads):
    """A single sum over 700 products would round 2.5 times as much as steps summed one after the other."""
    a, b = noise(T * N, 500).float(), noise(T * N, 40, seed=1).float()
    exact, loop = a.double().T @ b.double(), torch.zeros(500, 40)
    for rows in torch.arange(T * N).split(N):
        loop += a[rows].T @ b[rows]
    threads(count)
    assert (cpu.transposed_product(a, b) - exact).norm() <= 2 * (loop - exact).norm() + 1e-12


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["none", "ln", "gn", "rms", "bn"])
def test_what_overflows_is_not_finite_in_either_backend(cell, norm):
    """The squares of summed inputs from 1e19 on, in float32: a network that has diverged shows as such."""
    layer, x = make(cell, 16, norm, dtype=torch.float32, options={"groups": 2} if norm == "gn" else {}), noise(3, 4, 5)
    outputs = [twin(layer, backend)(x.float() * 1e25)[0] for backend in ("fused", "reference")]
    if norm == "bn":  # torch sums in float64
        assert outputs[0].isnan().all()
    else:
        assert torch.equal(outputs[0].isnan(), outputs[1].isnan())
        assert outputs[0].isnan().any() == (norm in ("ln", "gn"))


@pytest.mark.parametrize("H", [1, 15, 16, 17, 31, 33, 300])
@pytest.mark.parametrize("cell", CELLS)
def test_sizes_around_vectors_and_tiles(cell, H):
    """Also products over more than 256 terms, which are summed in blocks: 300 forward, at least as many backward."""
    for N, norm in itertools.product([1, 2, 12, 13, 25], ["none", "ln", "bn"]):
        if norm == "bn" and N == 1:
            continue
        layer = make(cell, H, norm, bidirectional=H < 300)
        x, states = noise(2, N, 5), states_of(layer, N)
        expected = run(twin(layer, "reference"), x, states)
        assert_close(run(layer, x, states), expected, 1e-11)
        given = run(layer.float(), x.float(), [state.float() for state in states])
        assert_close(given, expected, 1e-4 if N > 2 or norm != "bn" else 1e-3)  # BN of two cases amplifies rounding


@pytest.mark.parametrize("cell, placement", PLACES)
@pytest.mark.parametrize("norm", ["ln", "gn", "rms", "bn"])
def test_every_placement_equals_the_loop(cell, placement, norm):
    """Two layers both ways, spans that end within a vector, unequal spans of a GRU; outputs not normalised to a tie."""
    layer = make(
        cell, 21, norm, placement, num_layers=2, bidirectional=True, options={"groups": 3} if norm == "gn" else {}
    )
    x, states = noise(4, 5, 5), states_of(layer, 5)
    assert_close(run(layer, x, states), run(twin(layer, "reference"), x, states), 1e-11)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("cell, function", [("rnn", torch.tanh), ("gru", torch.sigmoid)])
def test_activations_in_float32(cell, function, sign):
    """Relative accuracy of some units in the last place from 1e-37 to where they saturate, and never beyond 1."""
    layer = identity_of_inputs(cell)
    x = sign * torch.cat([torch.logspace(-37, 1, 24 * 200), torch.linspace(0, 86, 24 * 200)]).view(1, -1, 24)
    hx = torch.ones(1, x.shape[1], 24) if cell == "gru" else None
    y, exact = layer(x, hx)[0].double(), function(x.double())
    assert y.abs().max() <= 1
    assert ((y - exact).abs() <= 4e-7 * exact.abs()).all()
    values = (50.0, 90.0, 200.0, 1e10, 3e38)  # in the GRU a zero weight times infinity is NaN
    for value in (*values, float("inf")) if cell == "rnn" else values:
        if value == float("inf") and cell == "gru":
            continue  # times the other gates' weights of 0 it is a NaN
        far = torch.full((1, 1, 1), sign * value)
        y = identity_of_inputs(cell, 1)(far, torch.ones(1, 1, 1) if cell == "gru" else None)[0]
        torch.testing.assert_close(y, function(far), rtol=4e-7, atol=1e-37)


@pytest.mark.parametrize("cell", CELLS)
def test_cases_beside_a_case_do_not_matter(cell):
    """Cases of a batch are apart: each gives what it gives alone, whatever tile of the product it falls into."""
    layer = make(cell, 33, "ln")
    x, states = noise(3, 25, 5), states_of(layer, 25)
    y = call(layer, x, states)[0]
    for n in (0, 11, 12, 24):
        alone = call(layer, x[:, n : n + 1], [state[:, n : n + 1] for state in states])[0]
        torch.testing.assert_close(y[:, n : n + 1], alone, rtol=1e-12, atol=1e-13)


# --- what is no number ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=["nan", "inf", "minus_inf"])
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_and_infinity_are_not_lost(cell, norm, value, dtype):
    """What is finite, and what is NaN given a NaN, is so with the plain equations."""
    for place in ("x", "weight_ih_l0", "weight_hh_l0", "state"):
        layer = make(cell, 18, norm, dtype=dtype)
        x, states = noise(3, 4, 5, dtype=dtype), states_of(layer, 4, dtype)
        target = {"x": x[1, 2], "state": states[-1][0, 2]}.get(place)
        with torch.no_grad():
            (layer.get_parameter(place)[5] if target is None else target)[3] = value
        given, expected = run(layer, x, states), run(twin(layer, "reference"), x, states)
        if (cell, place, dtype, value == value) == ("gru", "state", torch.float32, True):
            # The gate of -inf is 6e-39 and not 0, and 0 * inf would be the reference's NaN.
            assert not given["y"].isfinite().all() and not given["d weight_hh_l0"].isfinite().all()
            continue
        for name in expected:
            assert torch.equal(given[name].isfinite(), expected[name].isfinite()), (place, name)
            if value != value:
                assert torch.equal(given[name].isnan(), expected[name].isnan()), (place, name)
        if value != value:
            assert given["y"].isnan().any() and given["d weight_ih_l0"].isnan().any(), place


def test_denormals_are_not_flushed():
    layer = make("lstm", 18, "ln", dtype=torch.float32)
    run(layer, noise(2, 3, 5, dtype=torch.float32), states_of(layer, 3, torch.float32))
    assert (torch.full((64,), 1e-40) * torch.ones(64)).ne(0).all()
    assert 5e-324 * 1.0 > 0
