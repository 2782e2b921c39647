"""What a recurrent layer refuses, with torch.nn's classes of error: sizes of the constructor, inputs, states."""

import numbers
import warnings
from typing import Any

import torch
from torch import Tensor


def check_sizes(layer: Any, dropout: Any) -> None:
    """Check the constructor's arguments. Raises TypeError for another type, ValueError for a value out of range."""
    for name in ("input_size", "hidden_size", "num_layers", "proj_size"):
        if not isinstance(value := getattr(layer, name), int):
            raise TypeError(f"{name} should be of type int, got {type(value).__name__}")
    for name in ("bias", "batch_first"):
        if not isinstance(value := getattr(layer, name), bool):
            raise TypeError(f"{name} should be of type bool, got {type(value).__name__}")
    for name in ("input_size", "hidden_size", "num_layers"):
        if (value := getattr(layer, name)) <= 0:
            raise ValueError(f"{name}={value} must be greater than zero")
    is_number = isinstance(dropout, numbers.Number) and not isinstance(dropout, bool)
    if not (is_number and 0 <= dropout <= 1):
        raise ValueError(f"dropout={dropout!r} should be a number in [0, 1], the probability of a unit to be zeroed")
    if not 0 <= layer.proj_size < layer.hidden_size:
        raise ValueError(
            f"proj_size={layer.proj_size} should be 0, for none, or positive and below hidden_size={layer.hidden_size}"
        )
    if layer.proj_size and layer.num_states == 1:
        raise ValueError(f"proj_size={layer.proj_size} is for an LSTM alone; {type(layer).__name__} has no projection")
    if dropout > 0 and layer.num_layers == 1:
        warnings.warn(
            f"dropout={dropout} acts between the layers of a stack: with num_layers=1 nothing is dropped",
            UserWarning,
            stacklevel=3,
        )


def check_input(layer: Any, input: Tensor) -> None:
    """Check the input, (T, N, I) or (T, I). Raises ValueError for axes and type, RuntimeError for sizes."""
    if input.dim() not in (2, 3):
        raise ValueError(_expected(layer, input))
    weight = layer._parameters.get("weight_ih_l0")
    dtype = (next(layer.parameters()) if weight is None else weight).dtype  # None where it is re-parametrised
    if input.dtype != dtype and not torch._C._is_any_autocast_enabled():
        name = type(layer).__name__
        raise ValueError(f"{name}: the input is {input.dtype}, the weights are {dtype}; give it input.to({dtype})")
    if input.shape[-1] != layer.input_size:
        raise RuntimeError(_expected(layer, input))
    if input.shape[1 if input.dim() == 3 and layer.batch_first else 0] == 0:
        raise RuntimeError(_expected(layer, input) + "; a sequence has at least one step")


def _expected(layer: Any, input: Tensor) -> str:
    batch, units = "N, T" if layer.batch_first else "T, N", layer.input_size
    return f"{type(layer).__name__}: expected ({batch}, {units}) or (T, {units}), got {tuple(input.shape)}"


def check_states(layer: Any, hx: Any, batch: tuple[int, ...], dtype: torch.dtype) -> None:
    """Check given initial states. batch: (N,), or () for one sequence. dtype: the input's.

    Raises RuntimeError for another shape or type, IndexError for an LSTM's state that is no pair, AttributeError for a
    pair where one state is expected.
    """
    name = type(layer).__name__
    if layer.num_states == 1:
        if not isinstance(hx, Tensor):
            raise AttributeError(f"{name} has one state, the tensor h; got a {type(hx).__name__}")
        hx = (hx,)
    elif len(hx) < 2:
        raise IndexError(f"{name} has a pair of states, (h, c); got a {type(hx).__name__} of {len(hx)}")
    elif len(hx) > 2:
        raise RuntimeError(f"{name} has a pair of states, (h, c); got {len(hx)}")
    for state, size in zip(hx, layer.state_sizes, strict=True):
        expected = (len(layer.suffixes), *batch, size)
        if tuple(state.shape) != expected:
            raise RuntimeError(f"{name}: expected an initial state of shape {expected}, got {tuple(state.shape)}")
        if state.dtype != dtype and not torch._C._is_any_autocast_enabled():
            raise RuntimeError(f"{name}: the initial state is {state.dtype}, the input {dtype}")
