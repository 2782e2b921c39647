"""Floats of 16 bits, and autocast: they come to the kernels as float32; bfloat16 is what products may be rounded to."""

import functools
import itertools

import pytest
import torch
from torch import nn

from models.recurrent import CELLS, RNN, compiler, cpu
from tests.helpers.fused import PLACES, call, cotangents, make, noise, run, states_of, twin
from tests.helpers.recurrent import TORCH

HALVES = [torch.bfloat16, torch.float16]
NAMES = ["bfloat16", "float16"]


def types(layer: nn.Module, x: torch.Tensor, hx, autocast: torch.dtype | None) -> list[torch.dtype]:
    """Of the outputs, and of the gradients of the input and the parameters."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        y, final = layer(x, hx)
    outputs = (y, *final) if isinstance(final, tuple) else (y, final)
    parameters = [p for name, p in layer.named_parameters() if not name.startswith("norm")]
    found = torch.autograd.grad(sum(out.float().sum() for out in outputs), [x, *parameters])
    return [tensor.dtype for tensor in (*outputs, *found)]


@functools.cache
def onednn_has_the_lstm() -> bool:
    """Whether torch.nn's LSTM runs under autocast here: for CPUs without bfloat16, oneDNN has none and raises."""
    try:
        types(nn.LSTM(5, 8), noise(4, 3, 5, dtype=torch.float32), None, torch.bfloat16)
    except RuntimeError as error:
        assert "could not create a primitive descriptor for the LSTM" in str(error)
        return False
    return True


def types_of_torch_nn(layer: nn.Module, x: torch.Tensor, hx, autocast: torch.dtype | None) -> list[torch.dtype]:
    """The same of torch.nn's layer, on this CPU or, where that lacks oneDNN's LSTM, on one that has it."""
    parameters = [parameter.dtype for parameter in layer.parameters()]
    if isinstance(layer, nn.LSTM) and autocast and parameters[0] == torch.float32 and not onednn_has_the_lstm():
        return [autocast] * 3 + [x.dtype] + parameters
    return types(layer, x, hx, autocast)


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", CELLS)
def test_types_are_those_of_torch_nn(cell, norm, fused_calls):
    """With and without a state, for inputs of 16, 32 and 64 bits; torch.nn lacks float16 under autocast in part."""
    calls = 0
    for weights, x_type, autocast in [
        (torch.float32, torch.float32, torch.bfloat16),
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.float64, torch.float64, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16, None),
        (torch.float16, torch.float16, None),
    ]:
        theirs, ours = TORCH[cell](5, 8).to(weights), CELLS[cell](5, 8, norm=norm, backend="auto").to(weights)
        state = torch.zeros(1, 3, 8, dtype=weights)
        x = noise(4, 3, 5, dtype=x_type)
        for hx in (None, (state, state) if cell == "lstm" else state):
            expected = types_of_torch_nn(theirs, x, hx, autocast)
            assert types(ours, x, hx, autocast) == expected, (weights, x_type, autocast)
            calls += 1
    assert len(fused_calls) == calls


@pytest.mark.parametrize("dtype", HALVES, ids=NAMES)
@pytest.mark.parametrize("norm", ["ln", "bn"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_values_are_those_of_float32_rounded(cell, placement, norm, dtype, fused_calls):
    """Of weights of 16 bits: the same layer in float32, but for the rounding of each layer's outputs."""
    layer = make(cell, 8, norm, placement, dtype=dtype)
    wide = twin(layer, "fused", torch.float32)
    x = noise(4, 6, 5, dtype=dtype)
    for training in (True, False):
        y, *finals = call(layer.train(training), x, states_of(layer, 6, dtype))
        expected = call(wide.train(training), x.float(), [state.float() for state in states_of(layer, 6, dtype)])
        for given, value in zip((y, *finals), expected, strict=True):
            assert given.dtype == dtype
            torch.testing.assert_close(given.float(), value, rtol=0.02, atol=0.06)
    for buffer, value in zip(layer.buffers(), wide.buffers(), strict=True):
        torch.testing.assert_close(buffer.float(), value.float(), rtol=0.02, atol=0.02)
    assert len(fused_calls) == 4


@pytest.mark.parametrize("dtype", HALVES, ids=NAMES)
def test_without_products_in_bfloat16_autocast_rounds_outputs_alone(dtype, fused_calls, kernels_for):
    kernels_for("-march=haswell" if compiler.library().has_bfloat16() else compiler.NATIVE)
    layer, x = make("lstm", 16, "ln", dtype=torch.float32, backend="auto"), noise(6, 4, 5, dtype=torch.float32)
    exact = call(layer, x)
    with torch.autocast("cpu", dtype):
        rounded = call(layer, x)
    for given, value in zip(rounded, exact, strict=True):
        assert torch.equal(given, value.to(dtype))
    assert len(fused_calls) == 2


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.bfloat16).double()


@pytest.fixture(params=["-march=native", "-march=cooperlake"])
def products_in_bfloat16(request, kernels_for):
    """The kernels of this processor, and those of one that has no tiles (AMX)."""
    if not compiler.library().has_bfloat16():
        pytest.skip("this processor does not multiply in bfloat16")
    kernels_for(request.param)


def test_factors_are_rounded_and_sums_are_float32(products_in_bfloat16):
    """One step of h_t = tanh(W_ih x_t + W_hh h_{t-1}) and its gradients, at sizes around tiles."""
    for (inputs, H), N in itertools.product([(1, 1), (31, 33), (64, 16), (530, 70)], (1, 16, 33, 70)):
        layer, x = make("rnn", H, inputs=inputs, dtype=torch.float32), noise(1, N, inputs, dtype=torch.float32)
        (h,) = states_of(layer, N, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            found = run(layer, x, [h])
        W_ih, W_hh, b_ih, b_hh = (parameter.detach().double() for parameter in layer.parameters())
        a = rounded(x[0]) @ rounded(W_ih).T + rounded(h[0]) @ rounded(W_hh).T + b_ih + b_hh
        torch.testing.assert_close(found["y"][0], a.tanh().bfloat16(), rtol=0, atol=2**-8)
        dy, dh_n = cotangents([found["y"], found["h_n"]])
        da = (dy.float() + dh_n.float())[0] * (1 - a.tanh().float().square())
        for name, value in {
            "d x": rounded(da) @ rounded(W_ih),
            "d state_0": rounded(da) @ rounded(W_hh),
            "d weight_ih_l0": rounded(da).T @ rounded(x[0]) if inputs >= cpu.NARROW else da.double().T @ x[0].double(),
            "d weight_hh_l0": rounded(da).T @ rounded(h[0]) if H >= cpu.NARROW else da.double().T @ h[0].double(),
            "d bias_ih_l0": da.sum(0).double(),
        }.items():
            # a `da` may round to a neighbour
            error = (found[name].squeeze(0).double() - value.squeeze(0)).norm() / value.norm()
            assert error < 2e-3, f"{name} of {inputs}, {H}, {N}: off by {error:.1e}"


def test_transposed_products_of_rounded_factors(products_in_bfloat16):
    for K, M, N in [(1, 5, 8), (33, 64, 31), (513, 100, 33), (1300, 130, 70)]:
        a, b = noise(K, M, dtype=torch.float32), noise(K, N, seed=1, dtype=torch.float32)
        value = rounded(a).T @ rounded(b)
        torch.testing.assert_close(cpu.transposed_product(a, b, factor=2).double(), value, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_products_in_bfloat16(value, products_in_bfloat16):
    layer, x = RNN(40, 20, backend="fused"), torch.zeros(3, 2, 40)
    x[0, 1, 7] = value
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)[0]
    (dW,) = torch.autograd.grad(y.float().sum(), [layer.weight_ih_l0])
    assert y[:, 0].isfinite().all() and (y[0, 1].isnan().all() or value == float("inf"))
    assert not dW[:, 7].isfinite().any() and dW[:, :7].isfinite().all() == (value == float("inf"))


def test_threads_and_memory_do_not_matter_in_bfloat16(threads, products_in_bfloat16):
    layer, x = make("lstm", 130, "ln", dtype=torch.float32), noise(16, 5, 5, dtype=torch.float32)
    states = states_of(layer, 5, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        one = run(layer, x, states)
        recomputed = run(make("lstm", 130, "ln", dtype=torch.float32, recompute=True), x, states)
        threads(2)
        two = run(layer, x, states)
    for name, expected in one.items():
        assert torch.equal(recomputed[name], expected)
        torch.testing.assert_close(two[name].float(), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm, options", [("none", {}), ("ln", {"gain": 0.1}), ("ln", {"gain": 1.0})])
def test_errors_of_each_precision(norm, options):
    """Of the outputs against float64, the largest relative to the largest output: the table of docs/layers.md,
    printed by pytest -s.

    The steps of an untrained layer with normalisers of gain 1 amplify the rounding of all factors.
    """
    for T in (10, 50):
        torch.manual_seed(0)
        layer = CELLS["lstm"](32, 64, norm=norm, norm_options=options, backend="fused")
        x = noise(T, 16, 32, dtype=torch.float32)
        exact = twin(layer, "fused", torch.float64)(x.double())[0]
        with torch.autocast("cpu", torch.bfloat16):
            autocast = layer(x)[0]
        found = {"float32": layer(x)[0], "autocast": autocast}
        for dtype in HALVES:
            found[str(dtype)] = twin(layer, "fused", dtype)(x.to(dtype))[0]
        errors = {name: ((y.double() - exact).abs().max() / exact.abs().max()).item() for name, y in found.items()}
        print(f"\n{norm} {options}, {T} steps:", *(f"{name} {error:.1e}" for name, error in errors.items()), end="")
        assert errors["float32"] < 1e-4
        if norm == "none" or options["gain"] < 1:
            assert errors["autocast"] < 2**-7 and errors["torch.bfloat16"] < 2**-7 and errors["torch.float16"] < 2**-10


@pytest.mark.parametrize("dtype", HALVES, ids=NAMES)
def test_a_step_with_scaled_gradients(dtype, fused_calls):
    """torch.amp.GradScaler, and gradients of float32 parameters in float32."""
    model = make("gru", 8, "ln", dtype=torch.float32, backend="auto")
    optimiser, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cpu")
    before = [p.detach().clone() for p in model.parameters()]
    with torch.autocast("cpu", dtype):
        loss = model(noise(4, 3, 5, dtype=torch.float32))[0].float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimiser)
    scaler.update()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert len(fused_calls) == 1
