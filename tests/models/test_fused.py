"""The fused kernels for CPUs against the plain equations (backend="reference"), which test_recurrent.py has checked.

Here: derivatives, accuracy in float32, odd sizes, threads, memory that is used again, and what happens where no kernel
can run.
"""

import copy
import functools
import gc
import io
import itertools
import mmap
import os
import pickle
import platform
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.norms import BatchNorm, LayerNorm, RMSNorm
from models.recurrent import CELLS, PLACEMENTS, Recurrent, compiler, cpu, pool

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


def call(layer: Recurrent, x, states=None) -> tuple[torch.Tensor, ...]:
    """(y, final states)"""
    y, final = layer(x, None if states is None else states if len(states) == 2 else states[0])
    return (y, *final) if isinstance(final, tuple) else (y, final)


def cotangents(outputs, seed: int = 300) -> list[torch.Tensor]:
    return [noise(*out.shape, seed=seed + k, dtype=out.dtype) for k, out in enumerate(outputs)]


def run(layer: Recurrent, x, states) -> dict[str, torch.Tensor]:
    """By name: the outputs, and the gradients of a random linear function of them by everything."""
    x, states = x.detach().clone().requires_grad_(), [state.detach().clone().requires_grad_() for state in states]
    outputs = call(layer, x, states)
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


# --- derivatives ------------------------------------------------------------------------------------------------------

# name: norm, H, options. 8 doubles or 16 floats make a vector, so none of these sizes is whole.
VARIANTS = {
    "ln": ("ln", 7, {}),
    "ln_18": ("ln", 18, {}),
    "gn_whole": ("gn", 7, {"groups": 1}),
    "gn_of_single_units": ("gn", 7, {"groups": 7}),
    "gn_18": ("gn", 18, {"groups": 6}),
    "rms": ("rms", 7, {}),
    "bn": ("bn", 7, {}),
    "bn_unbiased": ("bn", 7, {"unbiased": True}),
    "bn_eval": ("bn", 7, {}),
}
CASES = [(c, p, v) for (c, p), v in itertools.product(PLACES, VARIANTS) if v != "gn_of_single_units" or p == "paper"]


def check_gradients(layer: Recurrent, T: int = 3, N: int = 3):
    """torch.autograd.gradcheck by input, states and parameters; also with the gradients of some outputs missing."""
    names = [name for name, _ in layer.named_parameters()]
    leaves = [noise(T, N, layer.input_size, seed=5), *states_of(layer, N), *(p.detach() for p in layer.parameters())]
    count = layer.num_states

    def function(x, *rest):
        hx = rest[:count] if count == 2 else rest[0]
        y, final = torch.func.functional_call(layer, dict(zip(names, rest[count:], strict=True)), (x, hx))
        return (y, *final) if count == 2 else (y, final)

    assert torch.autograd.gradcheck(function, [leaf.clone().requires_grad_() for leaf in leaves], fast_mode=True)


@pytest.mark.parametrize("cell, placement, variant", CASES)
def test_gradients_are_the_derivatives(cell, placement, variant):
    norm, H, options = VARIANTS[variant]
    layer = make(cell, H, norm, placement, options=options, bidirectional=True)
    if variant == "bn_eval":
        for seed in range(2):
            layer(noise(2, 4, 5, seed=seed))  # one step fewer than what follows
        layer.eval()
    check_gradients(layer)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("norm", ["none", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_without_activations_normalised(cell, norm, bias):
    check_gradients(make(cell, 7, norm, bias=bias, bidirectional=True))


@pytest.mark.parametrize("norm", ["ln", "bn"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_gradients_without_biases(cell, placement, norm):
    check_gradients(make(cell, 7, norm, placement, bias=False))


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


def identity_of_inputs(cell: str, H: int = 24) -> Recurrent:
    """In float32, elementwise: an RNN that returns tanh(x), or a GRU that from h = 1 returns sigmoid(x)."""
    layer = CELLS[cell](H, H, bias=False, backend="fused")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0[slice(H) if cell == "rnn" else slice(H, 2 * H)] = torch.eye(H)
    return layer


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


# --- the same bits ----------------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_share_the_cases_and_runs_repeat(cell, norm, threads):
    """Two threads with an odd number of cases, and four with three: as one thread up to the order of the sums."""
    H, T = {"rnn": 240, "lstm": 130, "gru": 150}[cell], 16
    layer = make(cell, H, norm)
    for N, count in (5, 2), (3, 4):
        assert T * N * layer.weight_hh_l0.numel() >= cpu.SPLIT_FROM, "too little work to be split"
        x, states = noise(T, N, 5), states_of(layer, N)
        one = run(layer, x, states)
        assert_same_bits(run(layer, x, states), one)
        threads(count)
        several = run(layer, x, states)
        assert_same_bits(run(layer, x, states), several)
        assert_close(several, one, 1e-11)
        if norm != "bn":  # which needs the whole batch
            assert any(not torch.equal(several[name], one[name]) for name in one), "nothing was split"
        with torch.no_grad():
            assert torch.equal(call(layer, x, states)[0], several["y"])
        threads(1)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_inputs_are_multiplied_a_few_steps_at_once(cell, norm, count, threads):
    """Two portions, the second one short, in both directions; with and without what backward needs."""
    H, T, N = {"rnn": 110, "lstm": 50, "gru": 60}[cell], 23, 9
    layer = make(cell, H, norm, bidirectional=True)
    assert T * N * layer.weight_hh_l0.numel() >= cpu.SPLIT_FROM and T % (cpu.TOGETHER // N) and T > cpu.TOGETHER // N
    x, states = noise(T, N, 5), states_of(layer, N)
    expected = run(twin(layer, "reference"), x, states)
    threads(count)
    found = run(layer, x, states)
    assert_close(found, expected, 1e-11)
    with torch.no_grad():
        assert torch.equal(call(layer, x, states)[0], found["y"])


@pytest.mark.parametrize("cell", CELLS)
def test_float32_runs_repeat(cell):
    layer = make(cell, 37, "ln", dtype=torch.float32, bidirectional=True)
    x, states = noise(6, 5, 5, dtype=torch.float32), states_of(layer, 5, torch.float32)
    first = run(layer, x, states)
    for _ in range(3):
        assert_same_bits(run(layer, x, states), first)


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


# --- autograd ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["rnn", "lstm", "gru"])
def layer(request) -> Recurrent:
    return make(request.param, 18, "ln")


def gradients(layer, outputs, **settings):
    return torch.autograd.grad(outputs, list(layer.parameters()), cotangents(outputs), allow_unused=True, **settings)


def assert_all_equal(given, expected):
    for a, b in zip(given, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("norm, placement", [("ln", "paper"), ("ln", "input_only"), ("bn", "paper"), ("none", "paper")])
@pytest.mark.parametrize("cell", CELLS)
def test_a_retained_graph_gives_the_same_again(cell, norm, placement):
    """Backward overwrites what forward kept. Running statistics move by forward alone."""
    layer, x = make(cell, 18, norm, placement), noise(4, 3, 5)
    outputs = call(layer, x)
    statistics = [buffer.clone() for buffer in layer.buffers()]
    first = [g.clone() for g in gradients(layer, outputs, retain_graph=True)]
    with torch.no_grad():  # takes and gives back memory in between
        call(layer.eval(), noise(4, 3, 5, seed=1))
    assert_all_equal(gradients(layer, outputs, retain_graph=True), first)
    assert_all_equal(gradients(layer, outputs), first)
    assert_all_equal(layer.buffers(), statistics)
    with pytest.raises(RuntimeError, match="second time"):
        gradients(layer, outputs)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("cell", CELLS)
def test_final_states_are_detached_in_place(cell, backend, layers):
    """As in truncated backpropagation through time."""
    layer = make(cell, 18, "ln", num_layers=layers, backend=backend)
    for gradients_wanted in (True, False):
        with torch.set_grad_enabled(gradients_wanted):
            _, *states = call(layer, noise(4, 3, 5))
        for state in states:
            assert not state.detach_().requires_grad


def test_second_derivatives_are_refused(layer):
    outputs = call(layer, noise(4, 3, 5))
    with pytest.raises(RuntimeError, match='backend="reference"'):
        gradients(layer, outputs, create_graph=True)


def test_two_sequences_in_flight(layer):
    inputs = [noise(4, 3, 5, seed=seed) for seed in (1, 2)]
    expected = [gradients(layer, call(layer, x)) for x in inputs]
    outputs = [call(layer, x) for x in inputs]
    copies = [y.detach().clone() for y, *_ in outputs]
    for k in (0, 1):
        assert_all_equal(gradients(layer, outputs[k]), expected[k])
    for (y, *_), held in zip(outputs, copies, strict=True):
        assert torch.equal(y, held), "an output was written over"


def test_gradients_stay_while_others_are_taken(layer):
    """What the optimiser holds is not the scratch of the next step."""
    layer(noise(4, 3, 5))[0].sum().backward()
    held = [p.grad.clone() for p in layer.parameters()]
    for seed in range(4):
        run(layer, noise(4, 3, 5, seed=seed), states_of(layer, 3))
    assert_all_equal([p.grad for p in layer.parameters()], held)


@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_without_gradients_the_same_values(cell, placement, norm):
    layer = make(cell, 18, norm, placement, bidirectional=True, num_layers=2)
    x, states = noise(5, 4, 5), states_of(layer, 4)
    expected = call(layer, x, states)
    with torch.no_grad():
        assert_all_equal(call(layer, x, states), expected)
    with torch.inference_mode():
        assert_all_equal(call(twin(layer, "fused"), x, states), expected)


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_without_gradients_less_is_stored(cell, norm, monkeypatch):
    """The outputs, the input term of a few steps, one step of the rest; with gradients all steps of everything."""
    taken = []
    monkeypatch.setattr(cpu, "take", lambda size, dtype: taken.append(size) or pool.take(size, dtype))
    T, N, H = 50, 8, 32
    layer, x = make(cell, H, norm), noise(T, N, 5)
    layer(x)
    kept = sum(taken)
    taken.clear()
    with torch.no_grad():
        layer(x)
    outputs, input_term, weights = T * N * H, cpu.TOGETHER * layer.gates * H, layer.gates * H * (H + 5)
    assert outputs <= sum(taken) < 1.2 * (outputs + input_term + weights)
    assert kept >= outputs * (1 + layer.gates) + weights


@pytest.mark.parametrize("frozen", ["weight_ih", "weight_hh", "bias", "norm", "weight", ""], ids=lambda f: f or "all")
def test_gradients_only_where_needed(layer, frozen):
    x = noise(4, 3, 5)
    expected = dict(zip(dict(layer.named_parameters()), gradients(layer, call(layer, x)), strict=True))
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    y, *_ = outputs = call(layer, x)
    assert y.requires_grad == bool(frozen)
    if frozen:
        torch.autograd.backward(outputs, cotangents(outputs))
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
        assert parameter.grad is None or torch.equal(parameter.grad, expected[name]), name
    leaf = x.clone().requires_grad_()  # nothing but the input wants one
    alone = [p.requires_grad_(False) for p in layer.parameters()] and call(layer, leaf)
    torch.autograd.backward(alone, cotangents(alone))
    assert_close(
        {"x": leaf.grad}, {"x": run(twin(layer, "reference").requires_grad_(), x, zeros(layer, 3))["d x"]}, 1e-11
    )


def zeros(layer: Recurrent, N: int) -> list[torch.Tensor]:
    return [torch.zeros_like(state) for state in states_of(layer, N)]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["y", "h_n", "c_n"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_one_output_alone(cell, which, bidirectional):
    if which == 2 and cell != "lstm":
        which = 1
    fused = make(cell, 18, "ln", bidirectional=bidirectional)
    x, found = noise(4, 3, 5), []
    for layer in (fused, twin(fused, "reference")):
        states = [state.requires_grad_() for state in states_of(layer, 3)]
        out = call(layer, x, states)[which]
        leaves = [*states, *layer.parameters()]
        found.append(torch.autograd.grad(out, leaves, cotangents([out]), allow_unused=True, materialize_grads=True))
    assert_close(*(dict(enumerate(gradients)) for gradients in found), 1e-11)


def test_strides_of_any_kind(layer):
    """Gradients that are expanded or transposed, inputs and states that are views."""
    other = twin(layer, "reference")
    wide = noise(3, 4, 10)
    x = wide.transpose(0, 1)[:, :, ::2]
    states = [noise(1, 18, 3, seed=k).transpose(1, 2) for k in range(layer.num_states)]
    for loss in (lambda y: y.sum(), lambda y: (y.transpose(0, 1) * noise(3, 4, 18)).sum(), lambda y: y[::2, 1].sum()):
        found = []
        for module in (layer, other):
            leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
            assert not leaf.is_contiguous() or leaf.stride() != x.contiguous().stride()
            y, *_ = call(module, leaf, states)
            found.append(torch.autograd.grad(loss(y), [leaf, *module.parameters()], allow_unused=True))
        assert_close(*(dict(enumerate(gradients)) for gradients in found), 1e-11)
    weights = noise(5, 4 * 18)  # and weights that are views, as some parametrisations give
    names = dict(layer.named_parameters()) | {"weight_ih_l0": weights[:, : len(layer.weight_ih_l0)].t()}
    (y, _), (expected, _) = (torch.func.functional_call(module, names, (x,)) for module in (layer, other))
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)


CHANGES = {
    "y": lambda y, final: y.mul_(3),
    "part_of_y": lambda y, final: y[1].zero_(),
    "detached": lambda y, final: y.detach().mul_(3),
    "no_grad": lambda y, final: torch.no_grad()(y.zero_)(),
    "final": lambda y, final: final.mul_(3),
    "detached_final": lambda y, final: final.detach().mul_(3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_outputs_changed_in_place_never_give_wrong_gradients(layer, change):
    """Torch's error, or the gradients of what was computed."""
    x, found = noise(4, 3, 5), []
    for module in (twin(layer, "reference"), layer):
        try:
            outputs = call(module, x)
            change(outputs[0], outputs[1])
            found.append(gradients(module, outputs))
        except RuntimeError as error:
            assert module is layer and ("inplace" in str(error) or "in-place" in str(error)), error
            return
    assert_close(*(dict(enumerate(g)) for g in reversed(found)), 1e-11)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "x", "h0"])
def test_inputs_changed_in_place_before_the_backward_pass_are_noticed(layer, name):
    x, states = noise(4, 3, 5), [state.clone() for state in states_of(layer, 3)]
    outputs = call(layer, x, states)
    with torch.no_grad():
        {"x": x, "h0": states[0]}.get(name, dict(layer.named_parameters()).get(name)).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(layer, outputs)


@pytest.mark.parametrize("cell", CELLS)
def test_running_statistics_that_move_before_the_backward_pass(cell):
    """Evaluation, then a training pass, then the backward pass of the first: an error or the right gradients."""
    layer = make(cell, 18, "bn")
    for seed in range(3):
        layer(noise(4, 6, 5, seed=seed))
    layer.eval()
    x = noise(3, 6, 5, seed=9)
    expected = gradients(layer, call(layer, x))
    outputs = call(layer, x)
    layer.train()(10 * noise(4, 6, 5, seed=10))
    try:
        found = gradients(layer, outputs)
    except RuntimeError as error:
        assert "inplace" in str(error)
    else:
        assert_all_equal(found, expected)


def test_saved_tensors_may_be_moved_and_checkpointed(layer):
    """torch.autograd.graph's hooks, as for offloading, see copies that die; and a checkpoint runs forward twice."""
    x = noise(4, 3, 5)
    expected = gradients(layer, call(layer, x))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t.detach().numpy().copy(), lambda a: torch.from_numpy(a.copy())
    ):
        outputs = call(layer, x)
    gc.collect()
    run(layer, noise(4, 3, 5, seed=7), states_of(layer, 3))
    assert_all_equal(gradients(layer, outputs), expected)
    outputs = torch.utils.checkpoint.checkpoint(lambda x: call(layer, x), x, use_reentrant=False)
    assert_all_equal(gradients(layer, outputs), expected)


# --- which backend ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fused_calls(monkeypatch) -> list:
    """Grows with every sequence that the kernels run."""
    calls, sequence = [], cpu.sequence
    monkeypatch.setattr(cpu, "sequence", lambda spec, inputs: calls.append(spec) or sequence(spec, inputs))
    return calls


def assert_falls_back(layer: Recurrent, x: torch.Tensor, fused_calls: list, because: str = "cannot run"):
    """auto gives the reference's values without a kernel; fused refuses in one line."""
    with torch.no_grad():
        expected = twin(layer, "reference")(x)[0]
        assert torch.equal(twin(layer, "auto")(x)[0], expected)
        assert not fused_calls
        with pytest.raises(ModelError, match=because) as caught:
            twin(layer, "fused")(x)
    assert "\n" not in str(caught.value) and "backend" in str(caught.value)


@pytest.mark.parametrize("cell", CELLS)
def test_auto_runs_the_kernels_where_it_can(cell, fused_calls):
    for norm in ("none", "wn", "ln", "gn", "rms", "bn"):
        for dtype in (torch.float32, torch.float64):
            make(cell, 8, norm, backend="auto", dtype=dtype)(noise(2, 3, 5, dtype=dtype))
    assert len(fused_calls) == 12
    make(cell, 8, backend="reference")(noise(2, 3, 5))
    assert len(fused_calls) == 12


HOOKS = {
    "forward": lambda module, seen: module.register_forward_hook(lambda *_: seen.append(1)),
    "forward_pre": lambda module, seen: module.register_forward_pre_hook(lambda *_: seen.append(1)),
    "backward": lambda module, seen: module.register_full_backward_hook(lambda *_: seen.append(1)),
    "backward_pre": lambda module, seen: module.register_full_backward_pre_hook(lambda *_: seen.append(1)),
    "every_module": lambda module, seen: nn.modules.module.register_module_forward_hook(lambda *_: seen.append(1)),
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
@pytest.mark.parametrize("place", ["norm_hh_l0", "norm_ih_l0.norms.1"])
def test_a_hook_on_a_normaliser_is_called(place, hook, fused_calls):
    seen, layer = [], make("gru", 8, "ln", backend="auto")
    handle = hook(layer.get_submodule(place), seen)
    try:
        layer(noise(3, 2, 5).requires_grad_())[0].sum().backward()
        assert seen and not fused_calls
        layer.backend = "fused"
        with pytest.raises(ModelError, match="hook") as caught:
            layer(noise(3, 2, 5))
        assert "\n" not in str(caught.value)
    finally:
        handle.remove()
    layer(noise(3, 2, 5))
    assert len(fused_calls) == 1, "without the hook the kernels run again"


def test_a_hook_sees_the_summed_inputs():
    seen, layer = [], make("lstm", 8, backend="auto")
    layer.norm_hh_l0.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x, states = noise(3, 2, 5), states_of(layer, 2)
    y = call(layer, x, states)[0]
    h_prev = torch.cat([states[0], y[:-1]])
    torch.testing.assert_close(torch.stack(seen), h_prev @ layer.weight_hh_l0.T, rtol=1e-10, atol=1e-10)


class Halved(LayerNorm):
    def forward(self, x, t=0):
        return super().forward(x, t) / 2


@pytest.mark.parametrize("place", ["norm_ih_l0", "norm_hh_l0", "norm_cell_l0"])
def test_an_unknown_normaliser_runs_by_its_own_forward(place, fused_calls):
    layer = make("lstm", 8, "ln")
    setattr(layer, place, Halved(8 if place == "norm_cell_l0" else 32).double())
    assert_falls_back(layer, noise(3, 2, 5), fused_calls, "Halved")
    gru = make("gru", 8, "ln")
    gru.norm_hh_l0.norms[1] = Halved(8, shift=False).double()
    assert_falls_back(gru, noise(3, 2, 5), fused_calls)


REPLACED = {
    "with_a_shift": lambda layer: setattr(layer, "norm_ih_l0", LayerNorm(32)),
    "another_kind": lambda layer: setattr(layer, "norm_hh_l0", RMSNorm(32, shift=False)),
    "other_eps": lambda layer: setattr(layer.norm_hh_l0, "eps", 0.5),
    "one_gate_of_another_kind": lambda layer: layer.norm_ih_l0.norms.__setitem__(1, RMSNorm(8, shift=False)),
    "one_gate_of_other_eps": lambda layer: setattr(layer.norm_ih_l0.norms[2], "eps", 0.5),
    "one_gate_with_a_shift": lambda layer: layer.norm_ih_l0.norms.__setitem__(1, LayerNorm(8)),
}


@pytest.mark.parametrize("name, change", REPLACED.items(), ids=REPLACED)
def test_a_normaliser_put_in_by_hand_is_obeyed(name, change):
    """auto gives what the modules say, whether or not a kernel can."""
    layer = make("lstm", 8, "ln", "per_gate" if name.startswith("one_gate") else "paper", backend="auto")
    change(layer)
    with torch.no_grad():
        for parameter_name, parameter in layer.named_parameters():
            if parameter_name.endswith(".bias"):
                parameter.fill_(0.7)
    layer.double()
    x, states = noise(3, 2, 5), states_of(layer, 2)
    assert_close(run(layer, x, states), run(twin(layer, "reference"), x, states), 1e-11)


def test_batch_norms_of_one_role_may_be_trained_apart():
    """One of a GRU's two normalisers in evaluation: as the reference does it."""
    layer = make("gru", 8, "bn", backend="auto")
    layer(noise(3, 4, 5))
    layer.norm_ih_l0.norms[1].eval()
    x, states = noise(3, 4, 5, seed=1), states_of(layer, 4)
    plain = twin(layer, "reference")
    assert_close(run(layer, x, states), run(plain, x, states), 1e-11)
    for ours, theirs in zip(layer.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_other_types_fall_back(dtype, fused_calls):
    assert_falls_back(
        make("gru", 8, "ln", dtype=dtype), noise(3, 2, 5, dtype=dtype), fused_calls, "float32 and float64"
    )


def test_types_that_do_not_match_are_not_read_as_something_else(layer):
    """The kernels take addresses: a state or parameter of another type must be refused or converted."""
    plain = twin(layer, "reference")
    x, states = noise(3, 2, 5), states_of(layer, 2)
    short = [state.float() for state in states]
    with pytest.raises((RuntimeError, ValueError)):
        call(layer, x, short)
    for module in (layer, plain):
        for name in ("norm_sum_l0", "norm_ih_l0", "norm_hh_l0", "norm_cell_l0"):
            getattr(module, name).float()
    layer.backend = "auto"
    try:
        expected = call(plain, x, states)[0]
    except RuntimeError:
        with pytest.raises((RuntimeError, ValueError)):
            call(layer, x, states)
    else:
        torch.testing.assert_close(call(layer, x, states)[0], expected)


def test_an_empty_batch_falls_back(fused_calls):
    assert make("rnn", 8, backend="auto")(noise(3, 0, 5))[0].shape == (3, 0, 8)
    assert not fused_calls


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(lambda z: f(z).square().sum())(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
}


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_of_functions_run_the_equations(transform, frozen, fused_calls):
    layer = make("lstm", 8, "ln", backend="auto").requires_grad_(not frozen)
    x = noise(3, 2, 5)
    given, expected = (transform(lambda z, m=m: m(z)[0], x) for m in (layer, twin(layer, "reference")))
    torch.testing.assert_close(given, expected, rtol=1e-11, atol=1e-11)
    assert not fused_calls


def test_tensors_without_memory_reach_no_kernel():
    """As torch.export and planners of memory use them; in a process of its own, which a kernel would crash."""
    source = """
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
        from models.recurrent import LSTM
        with FakeTensorMode():
            print(tuple(LSTM(5, 8, norm="ln")(torch.randn(3, 2, 5))[0].shape))
        print(tuple(LSTM(5, 8, norm="ln").to("meta")(torch.randn(3, 2, 5, device="meta"))[0].shape))
    """
    assert finished(python(source)).split("\n")[:2] == ["(3, 2, 8)"] * 2


def test_unknown_backend_is_refused():
    with pytest.raises(ModelError, match=r"backend=quick.*auto, fused, reference") as caught:
        CELLS["rnn"](3, 4, backend="quick")
    assert "\n" not in str(caught.value)


# --- building the kernels ---------------------------------------------------------------------------------------------

LAYERS = """
    import sys, warnings
    import torch
    from models.recurrent import CELLS
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = [CELLS[cell](5, 9, norm="ln", bidirectional=True).double() for cell in ("lstm", "gru")]
        x = torch.randn(4, 3, 5, dtype=torch.float64)
        outputs = [layer(x)[0] for layer in layers for _ in range(2)]
        sum(y.square().sum() for y in outputs).backward()
    torch.save([*outputs, *(p.grad for layer in layers for p in layer.parameters())], sys.argv[1])
    print([(w.category.__name__, str(w.message)) for w in caught])
"""


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


def test_without_a_compiler_the_equations_run_with_one_notice(tmp_path):
    not_a_program = tmp_path / "c++"
    not_a_program.write_text("")
    not_a_program.chmod(0o755)
    environments = {
        "here": {},
        "none": {"CXX": "/nonexistent", "PATH": "", "LAYERNORM_CACHE": str(tmp_path / "none")},
        "fails": {"CXX": "/bin/false", "LAYERNORM_CACHE": str(tmp_path / "fails")},
        "no_program": {"CXX": str(not_a_program), "LAYERNORM_CACHE": str(tmp_path / "no_program")},
    }
    processes = {name: python(LAYERS, tmp_path / f"{name}.pt", **env) for name, env in environments.items()}
    printed = {name: finished(process) for name, process in processes.items()}
    expected = torch.load(tmp_path / "here.pt")
    assert printed.pop("here").strip() == "[]"
    for name, text in printed.items():
        notices = eval(text)
        assert [category for category, _ in notices] == ["RuntimeWarning"], notices
        assert "plain equations" in notices[0][1] and "\n" not in notices[0][1], notices
        for a, b in zip(torch.load(tmp_path / f"{name}.pt"), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert not list(tmp_path.glob("*/kernels/*.so")), "a failed build leaves nothing behind"


def test_fused_without_a_compiler_is_refused_in_one_line(monkeypatch, fused_calls):
    from models.recurrent import dispatch

    def no_library():
        raise compiler.CompilerError("there is no C++ compiler: install g++")

    monkeypatch.setattr(compiler, "library", no_library)
    dispatch.machine_obstacle.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_falls_back(make("rnn", 8), noise(3, 2, 5), fused_calls, "no C.. compiler")
    finally:
        dispatch.machine_obstacle.cache_clear()


# Alone, without torch, and without optimisation: these are about files.
BUILD = """
    import importlib.util
    spec = importlib.util.spec_from_file_location("compiler", "models/recurrent/compiler.py")
    compiler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiler)
    compiler.FLAGS = ("-O0", *compiler.FLAGS[1:])
    print(compiler.library().packed_columns(1, 8) > 0)
"""


def test_two_processes_may_build_at_once(tmp_path):
    """Each compiler waits until the other has started."""
    started = tmp_path / "started"
    started.mkdir()
    waiting = tmp_path / "waiting_compiler"
    waiting.write_text(
        f'#!/bin/sh\ntouch "{started}/$$"\n'
        f'for i in $(seq 200); do [ "$(ls "{started}" | wc -l)" -ge 2 ] && break; sleep 0.05; done\n'
        f'exec "{compiler.compiler()}" "$@"\n'
    )
    waiting.chmod(0o755)
    environment = {"CXX": str(waiting), "LAYERNORM_CACHE": str(tmp_path / "cache")}
    processes = [python(BUILD, **environment) for _ in range(2)]
    assert [finished(process).strip() for process in processes] == ["True", "True"]
    assert len(list(started.iterdir())) == 2, "both built"
    (left,) = (tmp_path / "cache" / "kernels").iterdir()
    assert left.suffix == ".so"
    assert finished(python(BUILD, **environment)).strip() == "True"
    assert len(list(started.iterdir())) == 2, "a third one finds what they built"


def test_a_cache_that_cannot_be_used(tmp_path):
    """Below a file, or with a broken binary in it: the process builds for itself."""
    file = tmp_path / "file"
    file.write_text("")
    before = set(Path("/tmp").iterdir())
    below = python(BUILD, LAYERNORM_CACHE=str(file / "cache"), TMPDIR=str(tmp_path))
    assert finished(below).strip() == "True"
    assert set(tmp_path.iterdir()) == {file}, "the temporary build is gone"
    assert not [path for path in set(Path("/tmp").iterdir()) - before if path.suffix == ".so"]
    good = tmp_path / "good"
    assert finished(python(BUILD, LAYERNORM_CACHE=str(good))).strip() == "True"
    (binary,) = (good / "kernels").iterdir()
    binary.write_text("not a library")
    assert finished(python(BUILD, LAYERNORM_CACHE=str(good))).strip() == "True"


def test_a_source_or_flag_of_its_own_has_a_binary_of_its_own(monkeypatch, tmp_path):
    path = compiler.compiler()
    keys = {compiler._key(path, compiler.NATIVE), compiler._key(path, "-march=other")}
    changed = tmp_path / "kernel.cpp"
    changed.write_text(compiler.SOURCE.read_text() + "\n")
    monkeypatch.setattr(compiler, "SOURCE", changed)
    assert len(keys | {compiler._key(path, compiler.NATIVE)}) == 3


def test_a_process_may_end_with_tensors_alive():
    source = """
        import torch
        from models.recurrent import LSTM, pool
        y, final = LSTM(3, 4, backend="fused")(torch.randn(5, 2, 3))
        z = y.sum()
        pool.held = LSTM(3, 4)(torch.randn(5, 2, 3))
    """
    assert finished(python(source)) == ""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
@pytest.mark.parametrize("flag", ["-march=haswell", "-march=x86-64"])
def test_other_instruction_sets(flag, monkeypatch):
    """Vectors of 32 and 16 bytes, with division in place of the estimate; what older machines run."""
    if flag == "-march=haswell" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine cannot run them")
    cpu._plan.cache_clear()
    monkeypatch.setattr(cpu, "library", functools.partial(compiler.library, flag))
    try:
        for cell, H, norm in itertools.product(CELLS, (3, 21, 65), ("none", "ln", "rms", "bn")):
            layer = make(cell, H, norm, bidirectional=True)
            x, states = noise(3, 7, 5), states_of(layer, 7)
            expected = run(twin(layer, "reference"), x, states)
            assert_close(run(layer, x, states), expected, 1e-11)
            assert_close(run(layer.float(), x.float(), [state.float() for state in states]), expected, 1e-4)
        for cell, function in ("rnn", torch.tanh), ("gru", torch.sigmoid):
            x = torch.linspace(-80, 80, 24 * 100).view(1, -1, 24)
            y = identity_of_inputs(cell)(x, torch.ones(1, 100, 24) if cell == "gru" else None)[0]
            torch.testing.assert_close(y.double(), function(x.double()), rtol=4e-7, atol=0)
    finally:
        cpu._plan.cache_clear()


# --- memory that is used again ----------------------------------------------------------------------------------------


@pytest.fixture
def empty_pool(monkeypatch):
    gc.collect()
    monkeypatch.setattr(pool, "_free", {})


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    ends = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in (a, b)]
    return max(start for start, _ in ends) < min(end for _, end in ends)


HOLDERS = {
    "view": lambda t: t[5:9],
    "numpy": lambda t: t.numpy(),
    "storage": lambda t: t.untyped_storage(),
    "other_type": lambda t: t.view(torch.int32),
    "detached": lambda t: t.detach(),
    "graph": lambda t: (t.requires_grad_() ** 2).sum(),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_whatever_holds_memory_keeps_it(hold, empty_pool):
    first = pool.take(1000, torch.float32)
    start = first.data_ptr()
    held = hold(first)
    del first
    second = pool.take(1000, torch.float32)
    assert abs(second.data_ptr() - start) >= 4000
    del held
    gc.collect()
    assert pool.take(1000, torch.float32).data_ptr() == start, "after the last holder it is used again"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blocks_are_aligned_apart_and_of_the_size(dtype, empty_pool):
    """Also blocks that come back at another size or type."""
    for _ in range(2):
        blocks = [pool.take(size, dtype) for size in (1, 3, 1000, 1025, 16383, 16385, 100_000, 4097, 4095)]
        for k, block in enumerate(blocks):
            assert block.dtype == dtype and block.is_contiguous() and block.data_ptr() % pool.ALIGNMENT == 0
            block.fill_(k)
        assert [block.numel() for block in blocks] == [1, 3, 1000, 1025, 16383, 16385, 100_000, 4097, 4095]
        for k, block in enumerate(blocks):
            assert (block == k).all()
        assert not any(overlap(a, b) for a, b in itertools.combinations(blocks, 2))
        del blocks, block


def test_similar_sizes_share_blocks(empty_pool):
    start = pool.take(100_000, torch.float32).data_ptr()
    assert pool.take(99_000, torch.float32).data_ptr() == start
    assert pool.take(50_000, torch.float64).data_ptr() == start
    assert pool.take(60_000, torch.float32).data_ptr() != start, "a much smaller one does not hold a large block"


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_a_large_block_begins_on_a_huge_page(empty_pool):
    block = pool.take(1_000_000, torch.float32)
    assert block.data_ptr() % pool.HUGE == 0
    assert block.fill_(1).sum() == 1_000_000
    assert pool.take(1000, torch.float32).data_ptr() % pool.ALIGNMENT == 0


def test_a_block_beyond_all_memory_is_refused(empty_pool):
    with pytest.raises(MemoryError):
        pool.take(1 << 58, torch.float32)


def test_a_bounded_number_of_blocks_is_kept_the_latest(empty_pool, monkeypatch):
    blocks = [pool.take(1000 * (1 + k % 3), torch.float32) for k in range(3 * pool.KEPT)]
    del blocks
    assert sum(map(len, pool._free.values())) == pool.KEPT
    made, new = [], pool._new
    monkeypatch.setattr(pool, "_new", lambda capacity: made.append(capacity) or new(capacity))
    pool.take(2_000_000, torch.float32)
    assert len(made) == 1
    for _ in range(2 * pool.KEPT):  # another comes back, time and again; the large one stays
        pool.take(1000, torch.float32)
    pool.take(2_000_000, torch.float32)
    assert len(made) == 1
    blocks = [pool.take(4000, torch.float32) for _ in range(pool.KEPT)]
    made.clear()
    del blocks
    pool.take(1000, torch.float32), pool.take(2_000_000, torch.float32)
    assert len(made) == 2, "those that waited longest went first"


def test_threads_take_and_give_back(empty_pool):
    """No block is lent twice and nothing is raised while several threads use the pool."""
    failed, interval, hook = [], sys.getswitchinterval(), sys.unraisablehook
    sys.unraisablehook = lambda args: failed.append(args.exc_value)

    def work(number: int):
        try:
            for k in range(1500):
                held = [pool.take(1000 * (1 + (k + j) % 5), torch.float32).fill_(number) for j in range(10)]
                if not all((block == number).all() for block in held):
                    failed.append("lent twice")
        except Exception as error:
            failed.append(error)

    try:
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        sys.unraisablehook = hook
    assert not failed, failed[:3]


def test_training_steps_need_no_new_memory(empty_pool, monkeypatch):
    """After the first step every block of a step is one that came back."""
    made, new = [], pool._new
    monkeypatch.setattr(pool, "_new", lambda capacity: made.append(capacity) or new(capacity))
    layer = make("lstm", 33, "ln", num_layers=2, bidirectional=True)
    optimiser = torch.optim.SGD(layer.parameters(), 1e-3)
    for step in range(4):
        optimiser.zero_grad()
        layer(noise(6, 3, 5, seed=step))[0].square().sum().backward()
        optimiser.step()
        if step == 1:
            made.clear()
    assert not made


# --- batch normalisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_running_statistics_are_those_of_the_loop(cell, placement, unbiased):
    """Sequences longer and shorter than the one before, of other batches; then evaluation beyond the known steps."""
    options = {"unbiased": unbiased, "momentum": 0.3}
    layer = make(cell, 7, "bn", placement, bidirectional=True, options=options)
    plain = twin(layer, "reference")
    for seed, (T, N) in enumerate([(3, 4), (5, 3), (2, 6)]):
        x, states = noise(T, N, 5, seed=seed), states_of(layer, N, seed=seed)
        assert_close(run(layer, x, states), run(plain, x, states), 1e-11)
    ours, theirs = layer.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert any(name.endswith("running_var") and len(value) == 5 for name, value in ours.items())
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-11, atol=1e-11, msg=name)
    for T in (4, 8):
        x, states = noise(T, 3, 5, seed=7), states_of(layer, 3)
        assert_close(run(layer.eval(), x, states), run(plain.eval(), x, states), 1e-11)
    for name, value in ours.items():
        assert torch.equal(layer.state_dict()[name], value), "evaluation moves nothing"


def test_gradients_do_not_depend_on_the_statistics_having_been_tracked():
    """The moved running statistics are the batch's; without gradients they move as well."""
    layer = make("gru", 7, "bn")
    other = twin(layer, "fused")
    x = noise(3, 4, 5)
    layer(x)
    with torch.no_grad():
        other(x)
    norms = [[m for m in module.modules() if isinstance(m, BatchNorm)] for module in (layer, other)]
    for a, b in zip(*norms, strict=True):
        assert torch.equal(a.running_mean, b.running_mean) and torch.equal(a.running_var, b.running_var)
        assert a.running_mean.any()


def test_one_case_in_training_is_refused():
    with pytest.raises(ValueError, match="two values per channel"):
        make("gru", 7, "bn")(noise(3, 1, 5))


# --- the layer as a module --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "ln", "bn", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_copies_and_saved_layers_compute_the_same(cell, norm):
    layer = make(cell, 9, norm, num_layers=2, bidirectional=True)
    x = noise(3, 4, 5)
    layer(x)[0].sum().backward()
    layer.eval()
    expected = layer(x)[0]
    layers = [copy.deepcopy(layer), make(cell, 9, norm, num_layers=2, bidirectional=True, seed=1).eval()]
    layers[1].load_state_dict(layer.state_dict())
    if norm != "wn":  # torch refuses to pickle what is parametrised
        layers.append(pickle.loads(pickle.dumps(layer)))
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        layers.append(torch.load(buffer, weights_only=False))
    for other in layers:
        assert other.backend == "fused"
        assert torch.equal(other(x)[0], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_states_go_to_torch_and_back(cell):
    ours = make(cell, 9, num_layers=2, bidirectional=True)
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 9, 2, bidirectional=True).double()
    x = noise(3, 4, 5)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-10, atol=1e-10)
    nn.init.normal_(theirs.weight_hh_l1, std=0.2)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-10, atol=1e-10)
