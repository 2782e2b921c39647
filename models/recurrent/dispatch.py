"""Dispatch: decide whether a fused kernel can run a layer's sequence, and hand the modules' tensors to it."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import ranks
from ..norms import BatchNorm, GroupNorm, LayerNorm, NoNorm, Normaliser, RMSNorm, WeightNorm
from .equations import Norms
from .ragged import Ragged
from .spec import Inputs, Spec, Statistics

# What a kernel knows. A normaliser of another type, a new one or a subclass, runs by its own forward.
KNOWN = (NoNorm, WeightNorm, GroupNorm, LayerNorm, RMSNorm, BatchNorm)
PLAIN_TENSORS = (Tensor, torch.nn.Parameter)
# Types of tensors that come to a kernel: those of 16 bits as float32.
HALVES = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, torch.float64, *HALVES)
# Steps times cases, inputs, and cases times units, which the kernels count in 32 bits
LARGEST = 1 << 30


def autocast(x: Tensor) -> bool:
    """Return whether torch.autocast has a say in this input: not where it is of float64."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type) and x.dtype is not torch.float64


def rounds_factors(x: Tensor, autocasting: bool) -> bool:
    """Return whether the kernels multiply in bfloat16: where the input or autocast is of it."""
    return (torch.get_autocast_dtype(x.device.type) if autocasting else x.dtype) is torch.bfloat16


def output_type(cell: str, x: Tensor, state: tuple[Tensor, ...], autocasting: bool) -> torch.dtype:
    """Return the type of the outputs of torch.nn's layer: the input's, or what autocast is set to."""
    if not autocasting:
        return x.dtype
    low = torch.get_autocast_dtype(x.device.type)
    return torch.promote_types(low, state[0].dtype) if cell == "gru" else low  # a GRU adds to its state


def obstacle(
    x: Tensor, others: tuple[Tensor | None, ...], norm: Norms, autocasting: bool = False, cpu_only: bool = False
) -> str | None:
    """Return why no kernel can run this sequence, in a few words, or None.

    others: states, weights and biases. autocasting: see `autocast`. cpu_only: it has lengths or resets, or recomputes.
    """
    if x.dtype not in FLOATS:
        return f"the kernels are for floats, and the input is {x.dtype}"
    if 0 in x.shape:
        return f"the input is empty: {tuple(x.shape)}"
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func is active"
    compiling = torch.compiler.is_compiling()  # what follows would bind a graph to sizes
    if not compiling and (reason := _traced(x) or _too_large(x, others[0])):
        return reason
    if torch.nn.modules.module._has_any_global_hook():
        return "a hook is on all modules, and the kernels call none"
    for name, role in norm._asdict().items():
        parts = _parts(role)
        if _hooked(role) or (parts[0] is not role and any(map(_hooked, parts))):
            return "a hook is on a normaliser, and the kernels call none"
        if name == "out" or type(role) is NoNorm:  # the outputs' is applied to all steps at once, by its own forward
            continue
        if type(parts[0]) not in KNOWN:
            return f"the kernels do not know the normaliser {type(parts[0]).__name__}"
        if type(parts[0]) is BatchNorm and parts[0].training and ranks.is_distributed():
            return "the batch is sharded over several processes, and the kernels see one shard"
        if len(parts) > 1 and len({_alike(part) for part in parts}) > 1:
            return f"the normalisers of the gates in norm_{name} differ in more than their size"
        if name != "cell" and "bias" in parts[0]._parameters:
            return f"norm_{name} has a bias beside the layer's"
        for part in parts:
            others += tuple(part._parameters.values())
    dtypes, device = (torch.float32, *HALVES) if autocasting else (x.dtype,), x.device
    for tensor in others:
        if tensor is not None and (
            tensor.dtype not in dtypes or tensor.device != device or not (compiling or type(tensor) in PLAIN_TENSORS)
        ):
            return f"the input is {x.dtype} on {device}, another tensor {tensor.dtype} on {tensor.device}"
    if x.is_cuda and cpu_only:
        return "the kernels for CUDA have no lengths, no reset and no recompute"
    if compiling and (x.is_cuda or x.dim() == 2):
        return "a graph has no operators for CUDA or for sequences of several lengths"
    return _machine_obstacle(x.device.type)


def in_torch_compile() -> bool:
    """Return whether torch.compile is at work, which may leave a part out of its graphs: no export, no torch.func."""
    whole = torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()
    return torch.compiler.is_compiling() and not whole


def _traced(x: Tensor) -> str | None:
    """Return what looks into each operation, or stands in for the tensors, so that a kernel would pass it by."""
    if torch._C._len_torch_dispatch_stack() or type(x) not in PLAIN_TENSORS:
        return "the tensors are of a kind without memory of its own"
    if torch._C._is_tracing():
        return "torch.jit is tracing"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    return None


def _too_large(x: Tensor, state: Tensor | None) -> str | None:
    rows, inputs, units = x.numel() // x.shape[-1], x.shape[-1], 0 if state is None else state.numel()
    if max(rows, inputs, units) <= LARGEST:
        return None
    return f"it counts steps times cases, inputs and cases times units to {LARGEST}, not {rows}, {inputs}, {units}"


@functools.cache
def machine_obstacle(device: str) -> str | None:
    """Return why no kernel can run on this machine's cpu, cuda or mps, or None. The first call builds the CPU's."""
    if device == "cpu":
        from .compiler import CompilerError, library

        try:
            library()
        except CompilerError as error:
            warnings.warn(
                f"recurrent layers run by their plain equations, several times slower: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return str(error)
    elif device == "cuda":
        try:
            import triton  # noqa: F401
        except ImportError:
            return "the kernels for CUDA need the package triton"
    else:
        return f"there are no kernels for the device {device}"
    return None


def _machine_obstacle(device: str) -> str | None:
    return machine_obstacle(device)


# As torch.compiler.assume_constant_result has it, without importing the compiler: a graph takes what this returns.
_machine_obstacle._dynamo_marked_constant = True  # type: ignore[attr-defined]


def sequence(
    cell: str,
    equations: Callable,
    x: Tensor,
    state: tuple[Tensor, ...],
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    norm: Norms,
    reverse: bool,
    start: int = 0,
    reset: Tensor | None = None,
    ragged: Ragged | None = None,
    recompute: bool = False,
    bfloat16: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one layer in one direction over x (T, N, I): outputs (T, N, H) and final state(s) (N, H), in one kernel.

    equations: the cell's, for derivatives that no kernel has (loop.py). norm: the normalisers by role, as for
    equations.py. Batch normalisation moves its running statistics, those of the T steps from `start` on. With
    `ragged`, x is (rows, I) and so on. reset: see spec.Inputs; recompute, bfloat16: see spec.Spec.
    """
    if x.is_cuda:
        from .cuda import sequence as run
    elif torch.compiler.is_compiling():
        from .operator import sequence as run
    else:
        from .cpu import sequence as run
    N = state[0].shape[0]  # len() would bind a graph to the number
    T = len(ragged.cases) if ragged else x.shape[0]
    shared = int(ragged.lengths[1]) if ragged else T  # of the steps; at the others a single case is left
    dtype = torch.float32 if x.dtype in HALVES else x.dtype

    def cast(tensor: Tensor | None) -> Any:
        return tensor if tensor is None or tensor.dtype is dtype else tensor.to(dtype)

    # A tanh RNN has one normaliser, of the sum; where no term has one of its own, both are summed first as well.
    joined = cell != "gru" and _plain(norm.ih) and _plain(norm.hh)
    roles = {"ih": norm.sum if joined else norm.ih, "hh": norm.hh, "cell": norm.cell}
    given = {role: _statistics(module, T, shared, N, start, cast) for role, module in roles.items()}
    b_ih, b_hh = map(cast, biases or (None, None))
    if b_ih is not None and b_hh is not None and cell != "gru":
        b_ih, b_hh = b_ih + b_hh, None
    norm_ih, norm_hh, norm_cell = (statistics for statistics, _, _ in given.values())
    spec = Spec(cell, joined, norm_ih, norm_hh, norm_cell, reverse, recompute, bfloat16)
    inputs = Inputs(
        cast(x),
        cast(weights[0]),
        cast(weights[1]),
        h0=cast(state[0]),
        c0=cast(state[1]) if cell == "lstm" else None,
        b_ih=b_ih,
        b_hh=b_hh,
        g_ih=cast(given["ih"][1]),
        g_hh=cast(given["hh"][1]),
        g_cell=cast(given["cell"][1]),
        b_cell=cast(getattr(norm.cell, "bias", None)),
        frozen={role: frozen for role, (_, _, frozen) in given.items() if frozen},
        lengths=ragged.lengths if ragged else None,
        reset=reset,
        equations=equations,
    )
    y, h_n, c_n, batch = run(spec, inputs)
    n = ragged.batch_sizes[:shared, None].to(x.dtype) if ragged else N
    for role, statistics in batch.items():
        column = 0
        for part in _parts(roles[role]):
            columns = slice(column, column := column + part.num_features)
            mean, var = (values[:shared, columns].to(part.running_mean.dtype) for values in statistics)
            part.track(mean, var, n, start)
    return y, (h_n,) if c_n is None else (h_n, c_n)


def _parts(module) -> list[Any]:
    """Return the normalisers of a role, one for each span with statistics of its own. All are of one class."""
    return list(module.norms) if "norms" in module._modules else [module]


def _hooked(module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _alike(norm: Normaliser) -> tuple:
    """Return what the normalisers of one role must have in common."""
    options = ("eps", "momentum", "unbiased", "training" if isinstance(norm, BatchNorm) else "")
    return type(norm), "bias" in norm._parameters, *(getattr(norm, o, None) for o in options if o)


def _plain(module) -> bool:
    return isinstance(module, NoNorm)


def _statistics(
    module, T: int, shared: int, N: int, start: int, cast: Callable[[Tensor], Tensor]
) -> tuple[Statistics | None, Tensor | None, tuple[Tensor, Tensor] | None]:
    """Return (statistics, gain, frozen mean and 1/sqrt(var + eps)) of a role over T steps from `start` on.

    shared: the steps, the first ones, at which more than one case is running.
    """
    if _plain(module):
        return None, None, None
    parts = _parts(module)
    first = parts[0]
    gain = _joined([part.weight for part in parts])
    if isinstance(first, BatchNorm):
        statistics, frozen = Statistics("frozen"), None
        if first.training:
            first.require_batch(N)
            statistics, T, start = Statistics("batch", first.eps, unbiased=first.unbiased), T - shared, start + shared
        if T:
            rows = [part.rows(T, start) for part in parts]
            mean, var = (cast(_joined([row[k] for row in rows])) for k in range(2))
            # copies: a training pass may move the running statistics before this one's backward pass
            frozen = mean.clone(), (var + first.eps).rsqrt()
        return statistics, gain, frozen
    if isinstance(first, RMSNorm):
        return Statistics("case", first.eps, tuple(part.num_features for part in parts), centred=False), gain, None
    spans = [size for part in parts for size in [part.num_features // part.groups] * part.groups]
    return Statistics("case", first.eps, tuple(spans)), gain, None


def _joined(tensors) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), -1)
