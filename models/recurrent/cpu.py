"""The fused sequence on a CPU: kernel/sequence.cpp behind one autograd function.

Forward: one call for all steps, which multiplies the inputs of a few steps at once, right before these steps come.
Backward: one call for all steps, dx among them likewise, then one product each for dW_ih and dW_hh. What backward needs
lies in one block of memory, cut up by layout.py; the gradients of A and R are written over A and R, which saves a walk
through as much memory again. A second backward pass, through a retained graph, therefore runs forward anew; so does the
first one with Spec.recompute, which keeps no block.

A row is one case at one step. Of sequences of several lengths only the steps that there are have rows, so that nothing
here knows of padding.
"""

import ctypes
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import derivatives
from .compiler import library
from .layout import OVER, POINTER, Plan, Sequence, Sizes, Words, factor_bytes, packed, plan_of
from .pool import take
from .spec import Inputs, Spec

# T*N*G*H*H, multiplications of the recurrence, below which a second thread costs more than it saves
SPLIT_FROM = 2e6
# Columns below which packing a matrix costs more than its product, as for images that come pixel by pixel
NARROW = 8


class Tensors(NamedTuple):
    """The tensors of a sequence in the order of autograd's arguments and gradients; shapes as in spec.Inputs."""

    x: Tensor
    W_ih: Tensor
    W_hh: Tensor
    h0: Tensor
    c0: Tensor | None
    b_ih: Tensor | None
    b_hh: Tensor | None
    g_ih: Tensor | None
    g_hh: Tensor | None
    g_cell: Tensor | None
    b_cell: Tensor | None


class Given(NamedTuple):
    """What of spec.Inputs has no gradient."""

    frozen: dict[str, tuple[Tensor, Tensor]]
    lengths: Tensor | None
    reset: Tensor | None

    @classmethod
    def of(cls, inputs: Inputs) -> "Given":
        return cls(inputs.frozen, inputs.lengths, None if inputs.reset is None else inputs.reset.contiguous())


def sequence(spec: Spec, inputs: Inputs):
    """See spec.py. Raises CompilerError where the kernels cannot be built."""
    tensors = prepared(spec, inputs)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        y, h_n, c_n, *batch = _Fused.apply(spec, inputs, *tensors)
    else:
        (y, h_n, c_n, *batch), *_ = forward(spec, Given.of(inputs), tensors, keep=False)
    statistics = zip(batch[::2], batch[1::2], strict=True)
    return y, h_n, c_n, dict(zip(spec.roles("batch"), statistics, strict=True))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, spec, inputs, *tensors):
        given = Given.of(inputs)
        outputs, *kept = forward(spec, given, Tensors(*tensors), keep=not spec.recompute)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outputs[3:])
        ctx.save_for_backward(given.lengths, given.reset, *tensors, *([] if spec.recompute else kept))
        ctx.spec, ctx.frozen, ctx.equations, ctx.spent = spec, given.frozen, inputs.equations, spec.recompute
        return outputs

    @staticmethod
    def backward(ctx, *gradients):
        gradients = gradients[:3]  # none of the batch statistics
        lengths, reset, *saved = ctx.saved_tensors
        tensors, kept = Tensors(*saved[: len(Tensors._fields)]), saved[len(Tensors._fields) :]
        spec, given, needed = ctx.spec, Given(ctx.frozen, lengths, reset), ctx.needs_input_grad[2:]
        if derivatives.wanted(gradients):
            inputs = Inputs(**tensors._asdict(), **given._asdict(), equations=ctx.equations)
            names = dict(zip(Tensors._fields, needed, strict=True))
            return None, None, *derivatives.gradients(spec, inputs, gradients, names)
        spent, ctx.spent = ctx.spent, True
        if spent:  # nothing was kept; or the graph is retained, and what forward kept has been overwritten
            _, *kept = forward(spec, given, tensors, keep=True)
        block, h = kept
        return None, None, *backward(spec, given, tensors, block, h, gradients, needed)


def _sizes(tensors: Tensors, lengths: Tensor | None) -> Sizes:
    (N, H), I = tensors.h0.shape, tensors.x.shape[-1]  # noqa: E741
    rows = tensors.x.numel() // I
    return Sizes(rows // N if lengths is None else int(lengths[0]), N, rows, I, H)


def _first_rows(lengths: Tensor | None) -> Tensor | None:
    """The first row of each step, and the number of rows (T+1,), of sequences of falling lengths."""
    if lengths is None:
        return None
    steps = torch.arange(int(lengths[0]))
    return nn.functional.pad((lengths > steps[:, None]).sum(1).cumsum(0), (1, 0))


def _steps(plan: Plan, block: Tensor, name: str, features: int) -> Tensor:
    """(T, features) of the block"""
    return block[plan.starts[name] :][: plan.T * features].view(plan.T, features)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _describe(plan: Plan, frozen: dict, first_rows, reset, tensors: Tensors, block: Tensor, h: Tensor) -> Sequence:
    """What both passes hand to the kernel. All pointers are into the tensors given here."""
    q = Sequence.from_buffer_copy(plan.static)
    rows = len(h) - q.N
    q.threads = torch.get_num_threads() if rows * tensors.W_hh.numel() >= SPLIT_FROM else 1
    q.first_rows = _pointer(first_rows)
    q.reset = _pointer(reset)
    q.x = _pointer(tensors.x)
    q.W_ih = _pointer(tensors.W_ih)
    q.W_hh = _pointer(tensors.W_hh)
    q.b_ih = _pointer(tensors.b_ih)
    q.b_hh = _pointer(tensors.b_hh)
    q.b_cell = _pointer(tensors.b_cell)
    q.norm_ih.gain = _pointer(tensors.g_ih)
    q.norm_hh.gain = _pointer(tensors.g_hh)
    q.norm_cell.gain = _pointer(tensors.g_cell)
    q.h = _pointer(h)
    base, words = block.data_ptr(), Words.from_buffer(q)
    for word, offset in plan.pointers:
        words[word] = base + offset
    for role, (mean, rstd) in frozen.items():
        norm = getattr(q, f"norm_{role}")
        if norm.over == OVER["frozen"]:
            norm.mean = _pointer(mean)
            norm.rstd = _pointer(rstd)
    return q


def _kernel(name: str, dtype: torch.dtype):
    return getattr(library(), f"{name}_{'float32' if dtype == torch.float32 else 'float64'}")


def _call(direction: str, q: Sequence, dtype: torch.dtype) -> None:
    if _kernel(direction, dtype)(ctypes.byref(q)):
        raise MemoryError(f"no memory for the {direction} pass over {q.T} steps of {q.N} cases")


def prepared(spec: Spec, inputs: Inputs | Tensors) -> Tensors:
    """Return the tensors as the kernel takes them: contiguous, and with a bias for whatever it adds one to."""
    given = [getattr(inputs, name) for name in Tensors._fields]
    tensors = Tensors(*[None if tensor is None else tensor.contiguous() for tensor in given])  # type: ignore[arg-type]
    (m, H), zeros = tensors.W_hh.shape, tensors.W_hh.new_zeros
    if tensors.b_ih is None and spec.norm_ih:
        tensors = tensors._replace(b_ih=zeros(m))
    if tensors.b_hh is None and spec.cell == "gru":
        tensors = tensors._replace(b_hh=zeros(m))
    if tensors.b_cell is None and spec.norm_cell:
        tensors = tensors._replace(b_cell=zeros(H))
    return tensors


def forward(spec: Spec, given: Given, tensors: Tensors, keep: bool):
    """(y, h_n, c_n, batch statistics ...), and for `backward` the block and h (N + rows, H)"""
    frozen, lengths, reset = given
    sizes, m, dtype = _sizes(tensors, lengths), len(tensors.W_hh), tensors.x.dtype
    N, H = sizes.N, sizes.H
    plan = plan_of(spec, sizes, dtype.itemsize, keep)
    block = take(plan.size, dtype)
    h = take((N + sizes.rows) * H, dtype).view(-1, H)
    first_rows = _first_rows(lengths)
    h_n = torch.empty_like(tensors.h0)
    c_n = None if tensors.c0 is None else torch.empty_like(tensors.c0)
    q = _describe(plan, frozen, first_rows, reset, tensors, block, h)
    q.h0 = _pointer(tensors.h0)
    q.c0 = _pointer(tensors.c0)
    q.h_n = _pointer(h_n)
    q.c_n = _pointer(c_n)
    batch = []
    for role in spec.roles("batch"):
        features = H if role == "cell" else m
        mean, rstd, var = (_steps(plan, block, f"{role}_{name}", features) for name in ("mean", "rstd", "var"))
        if role in frozen:  # of the last steps, at which a single case is left
            for steps, value in zip((mean, rstd), frozen[role], strict=True):
                steps[-len(value) :] = value
        batch += [mean, var]
    _call("forward", q, dtype)
    y = (h[: sizes.rows] if spec.reverse else h[N:]).view(*tensors.x.shape[:-1], H)
    return (y, h_n, c_n, *(statistic.clone() for statistic in batch)), block, h


def backward(spec, given: Given, tensors: Tensors, block, h, of_outputs, needed: Iterable[bool], spare: bool = False):
    """Gradients of the tensors, None where not needed. Unless `spare`, overwrites A and R in `block` by theirs.

    of_outputs: the gradients of y, h_n and c_n, None for zero. needed: in the order of Tensors.
    """
    frozen, lengths, reset = given
    need = dict(zip(Tensors._fields, needed, strict=True))
    sizes, m, dtype = _sizes(tensors, lengths), len(tensors.W_hh), tensors.x.dtype
    rows, I, H = sizes[2:]  # noqa: E741
    plan = plan_of(spec, sizes, dtype.itemsize, True)
    first_rows = _first_rows(lengths)
    q = _describe(plan, frozen, first_rows, reset, tensors, block, h)
    dy, dh_n, dc_n = (None if gradient is None else gradient.contiguous() for gradient in of_outputs)

    factor = factor_bytes(spec, dtype.itemsize)
    packed_hh, packed_ih = (packed(spec, m, columns, dtype.itemsize) for columns in (H, I))
    scratch = take(max(packed_hh + packed_ih, _transposed_room(max(H, I), dtype, factor)), dtype)
    dA, dR = _term_gradients(spec, plan, block, rows, m, spare)
    dx = take(rows * I, dtype).view_as(tensors.x) if need["x"] else None
    gradients = {name: _like(getattr(tensors, name)) for name in Tensors._fields[3:]}  # of states and vectors

    q.packed_hh = _pointer(scratch)
    q.packed_ih = _pointer(scratch[packed_hh:])
    q.dA = _pointer(dA)
    q.dR = _pointer(dR)
    q.dx = _pointer(dx)
    q.dy = _pointer(dy)
    q.dh = _pointer(gradients["h0"])
    q.dc = _pointer(gradients["c0"])
    q.dh_last = _pointer(dh_n)
    q.dc_last = _pointer(dc_n)
    q.db_ih = _pointer(gradients["b_ih"])
    q.db_hh = _pointer(gradients["b_hh"])
    q.db_cell = _pointer(gradients["b_cell"])
    q.norm_ih.gain_grad = _pointer(gradients["g_ih"])
    q.norm_hh.gain_grad = _pointer(gradients["g_hh"])
    q.norm_cell.gain_grad = _pointer(gradients["g_cell"])
    _call("backward", q, dtype)

    gradients["x"] = dx
    if need["W_ih"]:
        gradients["W_ih"] = transposed_product(dA, tensors.x.view(rows, I), factor, scratch)
    if need["W_hh"]:
        h_before = _states_before(spec, sizes.N, first_rows, reset, h)
        gradients["W_hh"] = transposed_product(dR, h_before, factor, scratch)
    return tuple(gradients.get(name) if need[name] else None for name in Tensors._fields)


def _states_before(spec: Spec, N: int, first_rows: Tensor | None, reset: Tensor | None, h: Tensor) -> Tensor:
    """h_{t-1} (rows, H) as each row's step started from it."""
    if first_rows is None:
        before = h[N:] if spec.reverse else h[:-N]
    else:
        cases = first_rows.diff()
        ended = N - nn.functional.pad(cases[:-1], (1, 0), value=N)  # before each step: so many rows have been left out
        before = h[torch.arange(len(h) - N) + ended.repeat_interleave(cases)]
    return before if reset is None else before.masked_fill(reset.view(-1, 1), 0)


def _like(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else torch.empty_like(tensor)


def _term_gradients(spec: Spec, plan: Plan, block: Tensor, rows: int, m: int, spare: bool) -> tuple[Tensor, Tensor]:
    """Memory (T*N, m) for the gradients of A and R, one for both where they agree: over what forward kept, or new."""

    def room(name: str, kept: bool) -> Tensor:
        memory = block[plan.starts[name] :][: rows * m] if kept and not spare else take(rows * m, block.dtype)
        return memory.view(rows, m)

    dA = room("A", kept=True)
    return dA, dA if plan.joined_gradient else room("R", kept=spec.norm_hh is not None)  # else R of one step served all


def transposed_product(a: Tensor, b: Tensor, factor: int | None = None, room: Tensor | None = None) -> Tensor:
    """a'b (M, N) of contiguous a (K, M) and b (K, N), in float32 or float64: dW = dA'x, summed over K = T*N rows.

    factor: bytes of an element of a and b in the product, 2 for bfloat16 and a sum in float32; by default as given. The
    sum goes in blocks, of at most 192 rows but for bfloat16. room: memory to work in; where it is missing or too small,
    some is taken. Raises MemoryError where no thread can be started.
    """
    (K, M), N = a.shape, b.shape[1]
    if N < NARROW:
        return torch.mm(a.t(), b, out=take(M * N, a.dtype).view(M, N))
    threads = min(torch.get_num_threads(), M) if K * M * N >= SPLIT_FROM else 1
    out = take(M * N, a.dtype).view(M, N)
    factor = factor or a.element_size()
    needed = _transposed_room(N, a.dtype, factor, threads)
    if room is None or room.numel() < needed:
        room = take(needed, a.dtype)
    at_a, at_b, at_out, at_room = (POINTER(tensor.data_ptr()) for tensor in (a, b, out, room))
    kernel = library().transposed_bfloat16 if factor == 2 else _kernel("transposed", a.dtype)
    if kernel(at_a, at_b, K, M, N, at_out, at_room, threads):
        raise MemoryError(f"no threads for a product of {K} rows")
    return out


def _transposed_room(N: int, dtype: torch.dtype, factor: int, threads: int | None = None) -> int:
    """Elements of `dtype` that `transposed_product` works in, by default with all threads."""
    threads = torch.get_num_threads() if threads is None else threads
    return -(-library().transposed_room(N, threads, factor) * factor // dtype.itemsize)
