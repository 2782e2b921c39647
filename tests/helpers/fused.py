"""Recurrent layers under both backends: made, run, compared."""

import copy
import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from models.errors import ModelError
from models.recurrent import CELLS, PLACEMENTS, Recurrent

ROOT = Path(__file__).resolve().parents[2]


EPS = 1e-2  # large, so that its place in the equations shows


GROUPS = 1


PLACES = [(cell, p) for cell, p in itertools.product(CELLS, PLACEMENTS) if p != "cell_only" or cell == "lstm"]


def noise(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def make(cell, H, norm="none", placement="paper", *, inputs=5, seed=0, dtype=torch.float64, options=None, **settings):
    """A fused layer whose every parameter is random, of a size that neither saturates nor starves the gates."""
    given = {} if norm in ("none", "wn") else {"eps": EPS, **({"groups": GROUPS} if norm == "gn" else {})}
    settings = {"backend": "fused", **settings}
    layer = CELLS[cell](inputs, H, norm=norm, norm_options=given | (options or {}), placement=placement, **settings)
    with torch.no_grad():
        for k, (name, parameter) in enumerate(layer.named_parameters()):
            scale = 1.2 * parameter.shape[1] ** -0.5 if parameter.dim() == 2 and parameter.shape[1] > 1 else 0.4
            value = scale * noise(*parameter.shape, seed=1000 * seed + k)
            parameter.copy_(value + (name.startswith("norm") and name.endswith("weight")))
    return layer.to(dtype)


def twin(layer: Recurrent, backend: str, dtype=None) -> Recurrent:
    other = copy.deepcopy(layer)
    other.backend = backend
    return other if dtype is None else other.to(dtype)


def states_of(layer: Recurrent, N: int, dtype=torch.float64, seed: int = 0) -> tuple[torch.Tensor, ...]:
    shape = (len(layer.suffixes), N, layer.hidden_size)
    return tuple(0.7 * noise(*shape, seed=100 + 10 * seed + k, dtype=dtype) for k in range(layer.num_states))


def call(layer: Recurrent, x, states=None, **settings) -> tuple[torch.Tensor, ...]:
    """(y, final states)"""
    y, final = layer(x, None if states is None else states if len(states) == 2 else states[0], **settings)
    return (y, *final) if isinstance(final, tuple) else (y, final)


def cotangents(outputs, seed: int = 300) -> list[torch.Tensor]:
    return [noise(*out.shape, seed=seed + k, dtype=out.dtype) for k, out in enumerate(outputs)]


def run(layer: Recurrent, x, states, **settings) -> dict[str, torch.Tensor]:
    """By name: the outputs, and the gradients of a random linear function of them by everything."""
    x, states = x.detach().clone().requires_grad_(), [state.detach().clone().requires_grad_() for state in states]
    outputs = call(layer, x, states, **settings)
    names = ["x", *(f"state_{k}" for k in range(len(states))), *(name for name, _ in layer.named_parameters())]
    leaves = [x, *states, *layer.parameters()]
    gradients = torch.autograd.grad(outputs, leaves, cotangents(outputs), allow_unused=True, materialize_grads=True)
    values = {name: out.detach() for name, out in zip(("y", "h_n", "c_n"), outputs, strict=False)}
    return values | {f"d {name}": gradient for name, gradient in zip(names, gradients, strict=True)}


def assert_close(given: dict, expected: dict, tolerance: float):
    """Within `tolerance` of the largest value of each tensor, and of 1."""
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        error, size = (given[name].double() - value).abs().max().item(), value.abs().max().item()
        assert error <= tolerance * (size + 1), f"{name}: off by {error:.2e} at values up to {size:.2e}"


def assert_same_bits(given: dict, expected: dict):
    for name, value in expected.items():
        assert torch.equal(given[name], value), name


def identity_of_inputs(cell: str, H: int = 24) -> Recurrent:
    """In float32, elementwise: an RNN that returns tanh(x), or a GRU that from h = 1 returns sigmoid(x)."""
    layer = CELLS[cell](H, H, bias=False, backend="fused")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0[slice(H) if cell == "rnn" else slice(H, 2 * H)] = torch.eye(H)
    return layer


def gradients(layer, outputs, **settings):
    return torch.autograd.grad(outputs, list(layer.parameters()), cotangents(outputs), allow_unused=True, **settings)


def assert_falls_back(layer: Recurrent, x: torch.Tensor, fused_calls: list, because: str = "cannot run"):
    """auto gives the reference's values without a kernel; fused refuses in one line."""
    with torch.no_grad():
        expected = twin(layer, "reference")(x)[0]
        assert torch.equal(twin(layer, "auto")(x)[0], expected)
        assert not fused_calls
        with pytest.raises(ModelError, match=because) as caught:
            twin(layer, "fused")(x)
    assert "\n" not in str(caught.value) and "backend" in str(caught.value)


def python(source: str, *arguments, **environment) -> subprocess.Popen:
    """A process of its own with this source; an environment variable of None is unset."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen) -> str:
    """What it printed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and not err, err
    return out
