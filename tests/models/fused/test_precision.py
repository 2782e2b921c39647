"""Floats of 16 bits, and autocast: they come to the kernels as float32."""

import pytest
import torch
from torch import nn

from models.recurrent import CELLS
from tests.helpers.fused import PLACES, call, make, noise, states_of, twin
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
            assert types(ours, x, hx, autocast) == types(theirs, x, hx, autocast), (weights, x_type, autocast)
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
def test_autocast_rounds_outputs_alone(dtype, fused_calls):
    layer, x = make("lstm", 16, "ln", dtype=torch.float32, backend="auto"), noise(6, 4, 5, dtype=torch.float32)
    exact = call(layer, x)
    with torch.autocast("cpu", dtype):
        rounded = call(layer, x)
    for given, value in zip(rounded, exact, strict=True):
        assert torch.equal(given, value.to(dtype))
    assert len(fused_calls) == 2


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_errors_of_each_precision(norm):
    """Of the outputs against float64, the largest relative to the largest output: the table of docs/layers.md,
    printed by pytest -s.

    The steps of an untrained layer with normalisers amplify the rounding of weights and inputs.
    """
    for T in (10, 50):
        torch.manual_seed(0)
        layer, x = CELLS["lstm"](32, 64, norm=norm, backend="fused"), noise(T, 16, 32, dtype=torch.float32)
        exact = twin(layer, "fused", torch.float64)(x.double())[0]
        with torch.autocast("cpu", torch.bfloat16):
            autocast = layer(x)[0]
        found = {"float32": layer(x)[0], "autocast": autocast}
        for dtype in HALVES:
            found[str(dtype)] = twin(layer, "fused", dtype)(x.to(dtype))[0]
        errors = {name: ((y.double() - exact).abs().max() / exact.abs().max()).item() for name, y in found.items()}
        print(f"\n{norm}, {T} steps:", *(f"{name} {error:.1e}" for name, error in errors.items()), end="")
        assert errors["float32"] < 1e-4 and errors["autocast"] < 2**-8
        if norm == "none":
            assert errors["torch.bfloat16"] < 2**-7 and errors["torch.float16"] < 2**-10


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
