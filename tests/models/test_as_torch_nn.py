"""Drawn layers beside torch.nn's: values, gradients, shapes, types, classes of error; and fused beside reference."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.recurrent import CELLS, PLACEMENTS
from tests.helpers.recurrent import TORCH, as_hx, as_tuple

FEW = settings(max_examples=60, deadline=None, derandomize=True)
TYPES = st.sampled_from([torch.float32, torch.float64])
TOLERANCE = {torch.float32: {"rtol": 2e-4, "atol": 2e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-10}}


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outcome(function: Callable) -> Any:
    """Return what the function returns, or the class of its exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function()
        except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
            return type(error)


WRONG_ARGUMENTS = [
    *(("input_size", value) for value in (0, -1, 2.0)),
    *(("hidden_size", value) for value in (0, -2, 3.0)),
    *(("num_layers", value) for value in (0, -1, 1.5)),
    *(("bias", value) for value in (1, None)),
    *(("dropout", value) for value in (-0.1, 1.5, "0.5", True, float("nan"))),
    *(("proj_size", value) for value in (-1, 5)),
    ("batch_first", "yes"),
    ("nonlinearity", "sigmoid"),
    ("dtype", torch.int32),
]
WRONG_CALLS = ["steps", "features", "type", "axes"]
WRONG_CALLS += [f"state's {what}" for what in ("rows", "batch", "units", "axes", "type", "one")]


@st.composite
def constructors(draw) -> tuple[str, dict]:
    """Draw a cell and arguments, one of them wrong in one layer of four."""
    cell = draw(st.sampled_from(sorted(CELLS)))
    arguments = {
        "input_size": draw(st.integers(1, 4)),
        "hidden_size": draw(st.integers(3, 5)),
        "num_layers": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 1.0])),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(TYPES),
    }
    if cell == "rnn":
        arguments["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if cell == "lstm":
        arguments["proj_size"] = draw(st.sampled_from([0, 0, 1, 2]))
    if draw(st.integers(0, 3)) == 0:
        name, value = draw(st.sampled_from(WRONG_ARGUMENTS))
        arguments[name] = value
    return cell, arguments


def state_like(ours, batch: tuple[int, ...], dtype: torch.dtype, wrong: str = "") -> Any:
    """Return an initial state, wrong in one way if asked."""
    rows = len(ours.suffixes) + (wrong == "rows")
    batch = tuple(size + (wrong == "batch") for size in batch)
    sizes = [size + (wrong == "units") for size in ours.state_sizes]
    state = tuple(
        noise((rows, *batch, size), other(dtype) if wrong == "type" else dtype, k).requires_grad_()
        for k, size in enumerate(sizes)
    )
    if wrong == "axes":
        return as_hx(tuple(each[0] for each in state))
    return state[:1] if wrong == "one" else as_hx(state)


def other(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float64 else torch.float64


@FEW
@given(
    constructors(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from(WRONG_CALLS * 5 + [""] * 55),
)
def test_without_norm_a_layer_is_torchs_or_refuses_what_torchs_refuses(
    drawn, unbatched, training, N, given_state, wrong
):
    cell, arguments = drawn
    theirs, ours = (outcome(lambda kind=kind: kind[cell](**arguments)) for kind in (TORCH, CELLS))
    if isinstance(theirs, type) or isinstance(ours, type):
        assert theirs is ours
        return
    assert [name for name, _ in theirs.named_parameters()] == [name for name, _ in ours.named_parameters()]
    ours.load_state_dict(theirs.state_dict())
    ours.train(training), theirs.train(training)

    dtype, features = arguments["dtype"], arguments["input_size"] + (wrong == "features")
    T = 0 if wrong == "steps" else 3
    shape = (T, features) if unbatched else (N, T, features) if arguments["batch_first"] else (T, N, features)
    x = noise((2, 2, *shape) if wrong == "axes" else shape, other(dtype) if wrong == "type" else dtype, 7)
    of_state = wrong.partition("state's ")[2]
    hx = state_like(ours, () if unbatched else (N,), dtype, of_state) if given_state or of_state else None
    given_, expected = (outcome(lambda layer=layer: layer(x.requires_grad_(), hx)) for layer in (ours, theirs))
    if isinstance(expected, type) or isinstance(given_, type):
        assert given_ is expected
        return
    assert isinstance(given_[1], tuple) == isinstance(expected[1], tuple)
    leaves = [x, *(() if hx is None else as_tuple(hx))]
    assert_same((given_[0], *as_tuple(given_[1])), (expected[0], *as_tuple(expected[1])), leaves, ours, theirs, dtype)


@st.composite
def normalised(draw) -> tuple[str, dict]:
    cell = draw(st.sampled_from(sorted(CELLS)))
    norm = draw(st.sampled_from(["bn", "ln", "wn", "gn", "rms"]))
    placements = [placement for placement in PLACEMENTS if placement != "cell_only" or cell == "lstm"]
    return cell, {
        "input_size": draw(st.integers(1, 9)),
        "hidden_size": draw(st.sampled_from([2, 4, 6, 18])),
        "num_layers": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(TYPES),
        "norm": norm,
        "norm_options": {"eps": 0.1, **({"groups": 2} if norm == "gn" else {})} if norm != "wn" else {},
        "placement": draw(st.sampled_from(placements)),
    }


@FEW
@given(normalised(), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_with_a_norm_fused_and_reference_agree(drawn, T, N, training, given_state):
    cell, arguments = drawn
    dtype = arguments["dtype"]
    fused, reference = (CELLS[cell](**arguments, backend=backend) for backend in ("fused", "reference"))
    with torch.no_grad():
        for seed, parameter in enumerate(fused.parameters()):
            parameter.copy_(0.4 * noise(parameter.shape, dtype, seed) + 0.2)
    reference.load_state_dict(fused.state_dict())
    fused.train(training), reference.train(training)
    x = noise((T, N, arguments["input_size"]), dtype, 7).requires_grad_()
    state = state_like(fused, (N,), dtype) if given_state else None
    outcomes = [outcome(lambda layer=layer: layer(x, state)) for layer in (fused, reference)]
    if any(isinstance(each, type) for each in outcomes):  # batch normalisation of one case in training
        assert outcomes == [ValueError] * 2 and N == 1 and training
        return
    leaves = [x, *(as_tuple(state) if state is not None else ())]
    given_, expected = ((y, *as_tuple(final)) for y, final in outcomes)
    assert_same(given_, expected, leaves, fused, reference, dtype)
    for a, b in zip(fused.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[dtype])


def assert_same(given_, expected, leaves: list, ours: nn.Module, theirs: nn.Module, dtype: torch.dtype) -> None:
    """Equal values, shapes, dtypes, and equal gradients of a random linear function of all outputs."""
    gradients = []
    for outputs, layer in ((given_, ours), (expected, theirs)):
        loss = sum((out * noise(out.shape, out.dtype, 20 + k)).sum() for k, out in enumerate(outputs))
        gradients.append(
            torch.autograd.grad(loss, [*leaves, *layer.parameters()], allow_unused=True, materialize_grads=True)
        )
    for a, b in zip((*given_, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[dtype])
