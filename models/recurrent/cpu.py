"""The fused sequence on a CPU: kernel.cpp behind one autograd function.

Forward: one call for all steps, which multiplies the inputs of a few steps at once, right before these steps come.
Backward: one call for all steps, dx among them likewise, then one product each for dW_ih and dW_hh. What backward needs
lies in one block of memory, cut up by `_plan`; the gradients of A and R are written over A and R, which saves a walk
through as much memory again. A second backward pass, through a retained graph, therefore runs forward anew.
"""

import ctypes
import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .compiler import library
from .pool import take
from .spec import GATES, Inputs, Spec, Statistics

POINTER, INT, INT64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
OVER = {"case": 1, "batch": 2, "frozen": 3}
CELL = {"rnn": 0, "lstm": 1, "gru": 2}
ROLES = ("in", "hh", "cell")
# T*N*G*H*H, multiplications of the recurrence, below which a second thread costs more than it saves
SPLIT_FROM = 2e6
# Columns below which packing a matrix costs more than its product, as for images that come pixel by pixel
NARROW = 8
# Rows (steps times cases) of the input's product that are made at once: enough to use each weight often, few enough to
# be in the cache when their steps come.
TOGETHER = 48


def _fields(kind, names: str) -> list:
    return [(name, kind) for name in names.split()]


class Norm(ctypes.Structure):
    """`struct Norm` of kernel.cpp."""

    _fields_ = [
        *_fields(INT, "over spans centred"),
        ("ends", POINTER),
        ("eps", ctypes.c_double),
        ("step", INT64),
        *_fields(POINTER, "gain mean rstd var gain_grad"),
    ]


class Sequence(ctypes.Structure):
    """`struct Sequence` of kernel.cpp."""

    _fields_ = [
        *_fields(INT, "cell joined reverse T N I H threads together window"),
        *_fields(INT64, "r_step gates_step c_step u_step"),
        *_fields(Norm, "norm_in norm_hh norm_cell"),
        *_fields(POINTER, "x W_ih packed_ih W packed b_in b_hh b_cell A R gates v u c h"),
        *_fields(POINTER, "h0 c0 h_n c_n"),
        *_fields(POINTER, "dy dh_last dc_last dR dx dh dc db_in db_hh db_cell"),
    ]


def sequence(spec: Spec, inputs: Inputs):
    """See spec.py. Raises CompilerError where the kernels cannot be built."""
    i = inputs
    tensors = (i.x, i.W_ih, i.W_hh, i.h0, i.c0, i.b_in, i.b_hh, i.g_in, i.g_hh, i.g_cell, i.b_cell)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        y, h_n, c_n, *batch = _Fused.apply(spec, i.frozen, *tensors)
    else:
        (y, h_n, c_n, *batch), _ = _forward(spec, i.frozen, tensors, keep=False)
    roles = [role for role in ROLES if (norm := spec.norm(role)) and norm.over == "batch"]
    return y, h_n, c_n, dict(zip(roles, zip(batch[::2], batch[1::2], strict=True), strict=True))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, spec, frozen, *tensors):
        outputs, (tensors, block, h) = _forward(spec, frozen, tensors, keep=True)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outputs[3:])
        ctx.save_for_backward(*tensors, block, h)
        ctx.spec, ctx.frozen, ctx.spent = spec, frozen, False
        return outputs

    @staticmethod
    def backward(ctx, dy, dh_n, dc_n, *_):
        if torch.is_grad_enabled():
            raise RuntimeError('the fused kernels have first derivatives only; use backend="reference" for higher ones')
        *tensors, block, h = ctx.saved_tensors
        spent, ctx.spent = ctx.spent, True
        if spent:  # a graph that is retained: what forward kept has been overwritten
            _, (tensors, block, h) = _forward(ctx.spec, ctx.frozen, tensors, keep=True)
        return None, None, *_backward(ctx.spec, ctx.frozen, tensors, block, h, dy, dh_n, dc_n, ctx.needs_input_grad[2:])


@dataclass(frozen=True)
class Plan:
    """What is the same for all sequences of a Spec and a shape."""

    starts: dict[str, int]  # where each array of the block begins, in elements
    size: int  # of the block
    joined_gradient: bool  # both terms have the same gradient
    static: bytes  # the Sequence without its pointers
    pointers: tuple[tuple[int, int], ...]  # into the block: where one stands in the Sequence, and its offset, in bytes
    ends: tuple  # keeps alive what `static` points to


@functools.lru_cache(256)
def _plan(spec: Spec, T: int, N: int, I: int, H: int, itemsize: int, keep: bool) -> Plan:  # noqa: E741
    """`keep`: room for what backward needs of all steps; otherwise the buffers of one step, or of a few, serve all."""
    m, steps = GATES[spec.cell] * H, T if keep else 1
    batch = any(norm and norm.over == "batch" for norm in (spec.norm_in, spec.norm_hh, spec.norm_cell))
    together = max(1, min(T, TOGETHER // N))
    window = T if keep or batch else together
    columns = library().packed_columns(m, itemsize)
    sizes = {"A": window * N * m, "packed": H * columns, "packed_ih": I * columns}
    if not spec.joined:
        sizes["R"] = (steps if spec.norm_hh else 1) * N * m
    if spec.cell != "rnn" and spec.norm_in:
        sizes["gates"] = steps * N * m  # otherwise they overwrite A
    if spec.cell == "lstm":
        sizes |= {"u": steps * N * H, "c": (T + 1 if keep else 1) * N * H}
    if spec.cell == "gru":
        sizes["v"] = steps * N * H
    for role in ROLES:
        norm, features = spec.norm(role), H if role == "cell" else m
        if norm and norm.over == "case":
            sizes |= {f"{role}_{name}": steps * N * len(norm.spans) for name in ("mean", "rstd")}
        if norm and norm.over == "batch":
            sizes |= {f"{role}_{name}": T * features for name in ("mean", "rstd", "var")}
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += -(-size // 16) * 16  # a cache line of floats

    q, ends = Sequence(), []
    q.cell, q.joined, q.reverse, q.T, q.N, q.I, q.H = CELL[spec.cell], spec.joined, spec.reverse, T, N, I, H
    q.together, q.window = together, window
    q.r_step = N * m if keep and spec.norm_hh else 0
    q.gates_step = N * m if keep else 0
    q.c_step = q.u_step = N * H if keep else 0
    for role in ROLES:
        given: Statistics | None = spec.norm(role)
        if given is None:
            continue
        norm = getattr(q, f"norm_{role}")
        norm.over, norm.eps, norm.step = OVER[given.over], given.eps, H if role == "cell" else m
        if given.over == "case":
            edges = list(itertools.accumulate(given.spans))
            ends.append((INT * len(edges))(*edges))
            norm.spans, norm.centred, norm.ends = len(edges), given.centred, ctypes.addressof(ends[-1])
            norm.step = N * len(edges) if keep else 0
    one = spec.joined or (spec.cell != "gru" and not spec.norm_in and not spec.norm_hh)
    pointers = tuple((_place(name), start * itemsize) for name, start in starts.items())
    return Plan(starts, end, one, bytes(q), pointers, tuple(ends))


def _place(name: str) -> int:
    """Byte of the Sequence at which the pointer to an array of the block stands: one of its own, or of a Norm."""
    if hasattr(Sequence, name):
        return getattr(Sequence, name).offset
    role, _, statistic = name.partition("_")
    return getattr(Sequence, f"norm_{role}").offset + getattr(Norm, statistic).offset


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _describe(plan: Plan, frozen: dict, tensors: Iterable[Any], block: Tensor, h: Tensor) -> Sequence:
    """What both passes hand to the kernel. All pointers are into `tensors`, `frozen`, `block` and `h`."""
    x, W_ih, W_hh, _, _, b_in, b_hh, g_in, g_hh, g_cell, b_cell = tensors
    q = Sequence.from_buffer_copy(plan.static)
    q.threads = torch.get_num_threads() if q.T * q.N * W_hh.numel() >= SPLIT_FROM else 1
    q.x, q.W_ih, q.W, q.b_in, q.b_hh, q.b_cell, q.h = map(_pointer, (x, W_ih, W_hh, b_in, b_hh, b_cell, h))
    q.norm_in.gain, q.norm_hh.gain, q.norm_cell.gain = map(_pointer, (g_in, g_hh, g_cell))
    base = block.data_ptr()
    for field, offset in plan.pointers:
        POINTER.from_buffer(q, field).value = base + offset
    for role, given in frozen.items():
        norm = getattr(q, f"norm_{role}")
        norm.mean, norm.rstd = map(_pointer, given)
    return q


def _kernel(name: str, dtype: torch.dtype):
    return getattr(library(), f"{name}_{'float32' if dtype == torch.float32 else 'float64'}")


def _call(direction: str, q: Sequence, dtype: torch.dtype) -> None:
    if _kernel(direction, dtype)(ctypes.byref(q)):
        raise MemoryError(f"no memory for the {direction} pass over {q.T} steps of {q.N} cases")


def _forward(spec: Spec, frozen: dict, given: tuple, keep: bool):
    """((y, h_n, c_n, batch statistics ...), (tensors as the kernel takes them, block, h))"""
    tensors: list[Any] = [None if tensor is None else tensor.contiguous() for tensor in given]
    x, _, W_hh, h0, c0, b_in, b_hh, _, _, _, b_cell = tensors
    (T, N, I), (m, H) = x.shape, W_hh.shape  # noqa: E741
    # The kernel adds a shift to whatever it normalises, and R of a gru.
    if b_in is None and spec.norm_in:
        tensors[5] = W_hh.new_zeros(m)
    if b_hh is None and spec.cell == "gru":
        tensors[6] = W_hh.new_zeros(m)
    if b_cell is None and spec.norm_cell:
        tensors[10] = W_hh.new_zeros(H)
    plan = _plan(spec, T, N, I, H, x.element_size(), keep)
    block, h = take(plan.size, x.dtype), take((T + 1) * N * H, x.dtype).view(T + 1, N, H)
    h_n, c_n = torch.empty_like(h0), None if c0 is None else torch.empty_like(c0)
    q = _describe(plan, frozen, tensors, block, h)
    q.h0, q.c0, q.h_n, q.c_n = map(_pointer, (h0, c0, h_n, c_n))
    _call("forward", q, x.dtype)
    batch = []
    for role in ROLES:
        norm, features = spec.norm(role), H if role == "cell" else m
        if norm and norm.over == "batch":
            for name in ("mean", "var"):
                batch.append(block[plan.starts[f"{role}_{name}"] :][: T * features].view(T, features).clone())
    return (h[:T] if spec.reverse else h[1:], h_n, c_n, *batch), (tensors, block, h)


def _backward(spec, frozen, tensors, block, h, dy, dh_n, dc_n, needed):
    """Gradients of the tensors, None where not needed. Overwrites A and, where it is kept, R in `block` by theirs."""
    x, _, W_hh, h0, c0, *vectors = tensors
    (T, N, I), (m, H), size = x.shape, W_hh.shape, x.element_size()  # noqa: E741
    plan = _plan(spec, T, N, I, H, size, True)
    q = _describe(plan, frozen, tensors, block, h)
    dy, dh_n, dc_n = (None if gradient is None else gradient.contiguous() for gradient in (dy, dh_n, dc_n))
    packed, packed_ih = (m * library().packed_columns(columns, size) for columns in (H, I))
    room = library().transposed_room(max(H, I), torch.get_num_threads(), size)
    scratch = take(max(packed + packed_ih, room), x.dtype)

    def kept(name: str) -> Tensor:
        return block[plan.starts[name] :][: T * N * m].view(T * N, m)

    dA = kept("A")
    if plan.joined_gradient:
        dR = dA
    elif spec.norm_hh:
        dR = kept("R")
    else:  # R of one step served all
        dR = take(T * N * m, x.dtype).view(T * N, m)
    dx = take(T * N * I, x.dtype).view_as(x) if needed[0] else None
    dh, dc = torch.empty_like(h0), None if c0 is None else torch.empty_like(c0)
    sums = [None if vector is None else torch.empty_like(vector) for vector in vectors]
    q.packed, q.packed_ih, q.dR, q.dx, q.dh, q.dc, q.dy, q.dh_last, q.dc_last = map(
        _pointer, (scratch, scratch[packed:], dR, dx, dh, dc, dy, dh_n, dc_n)
    )
    q.db_in, q.db_hh, q.norm_in.gain_grad, q.norm_hh.gain_grad, q.norm_cell.gain_grad, q.db_cell = map(_pointer, sums)
    _call("backward", q, x.dtype)
    h_prev = (h[1:] if spec.reverse else h[:T]).view(T * N, H)
    dW_ih = transposed_product(dA, x.view(T * N, I), scratch) if needed[1] else None
    dW_hh = transposed_product(dR, h_prev, scratch) if needed[2] else None
    gradients = (dx, dW_ih, dW_hh, dh, dc, *sums)
    return tuple(gradient if need else None for gradient, need in zip(gradients, needed, strict=True))


def transposed_product(a: Tensor, b: Tensor, room: Tensor | None = None) -> Tensor:
    """a'b (M, N) of contiguous a (K, M) and b (K, N), in float32 or float64: dW = dA'x, summed over K = T*N rows.

    The sum goes in blocks of at most 192 rows. room: memory to work in; where there is none or too little,
    some is taken. Raises MemoryError where no thread can be started.
    """
    (K, M), N = a.shape, b.shape[1]
    if N < NARROW:
        return torch.mm(a.t(), b, out=take(M * N, a.dtype).view(M, N))
    threads = min(torch.get_num_threads(), M) if K * M * N >= SPLIT_FROM else 1
    out = take(M * N, a.dtype).view(M, N)
    needed = library().transposed_room(N, threads, a.element_size())
    if room is None or room.numel() < needed:
        room = take(needed, a.dtype)
    at_a, at_b, at_out, at_room = (POINTER(tensor.data_ptr()) for tensor in (a, b, out, room))
    if _kernel("transposed", a.dtype)(at_a, at_b, K, M, N, at_out, at_room, threads):
        raise MemoryError(f"no threads for a product of {K} rows")
    return out
