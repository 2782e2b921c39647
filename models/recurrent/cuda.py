"""The fused sequence on a GPU: one matrix product and one Triton kernel a step, replayed as CUDA graphs.

NOT YET RUN ON A GPU. The kernel is tested in Triton's interpreter on CPU tensors, and compiled, not run, for compute
capabilities 8.0 and 9.0; the pool of graphs is tested with plain loops in place of recorded ones. What only a GPU
can show, recording, replaying, streams and speed, is untested and unmeasured.

Forward: A = x W_ih' for all steps in one product; then per step R_t = h_{t-1} W_hh' and the kernel `_step`, which
normalises the raw A_t and R_t, and does the gates and the cell's norm. A_t is normalised there and not for all steps
beforehand, since the step reads it anyway: that saves both passes from writing and reading it once more. Backward:
per step `_step` again, which computes the forward's values anew (only A, R, h and c are kept) and goes on to the
gradients, and one product; then one product each for dx, dW_ih and dW_hh. The gradients of gains and biases are
summed over the steps by the program that owns their cases or units, not with atomics, so that runs agree bit for bit.

Everything here is in the order of the steps taken; `sequence` turns a reversed sequence around.
"""

import contextlib
import functools
import itertools
import warnings
from collections import defaultdict, namedtuple
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from . import derivatives
from .spec import GATES, ROLES, Inputs, Spec
from .triton_step import _step

MAX_GRAPHS = 16  # recorded sequences in this process, each with buffers of its own; 0 records none

# --- all steps --------------------------------------------------------------------------------------------------------
# The tensors of `_step`, and W = W_hh; those that a sequence does not need are empty.
# The tensors of a sequence in the order of autograd's arguments and gradients: the last ones as parts of theta.
TENSORS = ("x", "W_ih", "W_hh", "h0", "c0", "g_ih", "b_ih", "g_hh", "b_hh", "g_cell", "b_cell")
Forward = namedtuple("Forward", "A R h c theta stats edges W")
Backward = namedtuple("Backward", "dy dh dc dA dR sums")


@dataclass(frozen=True)
class Plan:
    """All that decides which kernels run and how large the buffers are. keep: for a backward pass."""

    spec: Spec
    T: int
    N: int
    H: int
    dtype: torch.dtype
    device: torch.device
    keep: bool

    @property
    def batch(self) -> list[str]:
        """The roles with statistics over the batch."""
        return self.spec.roles("batch")

    @functools.cached_property
    def joined(self) -> bool:
        """Whether A_t and R_t are added before anything else."""
        plain = self.spec.norm_ih is None and self.spec.norm_hh is None
        return self.spec.joined or (plain and self.spec.cell != "gru")

    @functools.cached_property
    def widths(self) -> tuple[int, int, int]:
        """Of the roles: features."""
        F = GATES[self.spec.cell] * self.H
        return F, F, self.H

    @functools.cached_property
    def columns(self) -> list[int]:
        """Of theta's parts: gain and bias of each role."""
        return [width for width in self.widths for _ in ("gain", "shift")]

    @functools.cached_property
    def tile(self) -> tuple[int, int]:
        """Cases and units of a program, powers of two; at least 128 values, where there are as many, for 32 threads."""
        cases, units = triton.next_power_of_2(self.N), triton.next_power_of_2(self.H)
        if self.batch:
            return cases, min(units, max(8, 256 // cases))
        return min(cases, max(1, 128 // units)), units

    @functools.cached_property
    def grid(self) -> tuple[int, int]:
        return triton.cdiv(self.N, self.tile[0]), triton.cdiv(self.H, self.tile[1])

    @functools.cached_property
    def constants(self) -> dict[str, Any]:
        spec, (BN, BH), norms, edges = self.spec, self.tile, [], 0
        for norm in map(spec.norm, ROLES):
            norms.append(norm and (norm.over, len(norm.spans), float(norm.eps), norm.centred, edges, norm.unbiased))
            edges += len(norm.spans) + 1 if norm else 0
        return {
            **{"CELL": spec.cell, "JOINED": self.joined, "IN": norms[0], "HH": norms[1], "OF_CELL": norms[2]},
            **{"G": GATES[spec.cell], "BN": BN, "BH": BH, "KEEP": self.keep},
            "num_warps": min(8, max(1, BN * BH // 128)),  # four values of a tile to a thread
        }


@functools.cache  # so that no copy from the host is made while a graph records
def _edges(spans: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        edges = [edge for sizes in spans for edge in itertools.accumulate(sizes, initial=0)]
        return torch.tensor(edges, dtype=torch.int32, device=device)


def _room_for_forward(plan: Plan) -> Forward:
    new = functools.partial(torch.empty, dtype=plan.dtype, device=plan.device)
    (T, N, H), F, norms = (plan.T, plan.N, plan.H), plan.widths[0], list(filter(None, map(plan.spec.norm, ROLES)))
    return Forward(
        A=new(T, N, F),
        R=new(0 if plan.joined else T if plan.keep else 1, N, F),
        h=new(T + 1, N, H),
        c=new(0 if plan.spec.cell != "lstm" else T + 1 if plan.keep else 2, N, H),
        theta=new(sum(plan.columns)),
        stats=new(T if any(norm.over != "case" for norm in norms) else 0, 2, sum(plan.widths)),
        edges=_edges(tuple(norm.spans for norm in norms), plan.device),
        W=new(F, H),
    )


def _room_for_backward(plan: Plan) -> Backward:
    new = functools.partial(torch.empty, dtype=plan.dtype, device=plan.device)
    T, N, H, F = plan.T, plan.N, plan.H, plan.widths[0]
    sums = new(plan.grid[0], sum(plan.columns))  # a row for each block of cases
    return Backward(new(T, N, H), new(N, H), new(N, H), new(T, N, F), new(0 if plan.joined else T, N, F), sums)


def _launch(plan: Plan, s: int, forward: Forward, backward: Backward | tuple) -> None:
    pointers = (*forward[:-1], *(backward or (None,) * len(Backward._fields)))
    _step[plan.grid](s, *pointers, plan.N, plan.H, BACKWARD=bool(backward), **plan.constants)


def _forward_steps(plan: Plan, forward: Forward) -> None:
    A, R, h, W = forward.A, forward.R, forward.h, forward.W.t()
    for s in range(plan.T):
        if plan.joined:
            A[s].addmm_(h[s], W)
        else:
            torch.mm(h[s], W, out=R[s if plan.keep else 0])
        _launch(plan, s, forward, ())


def _backward_steps(plan: Plan, forward: Forward, backward: Backward) -> None:
    dR = backward.dA if plan.joined else backward.dR
    backward.sums.zero_()
    for s in reversed(range(plan.T)):
        _launch(plan, s, forward, backward)
        backward.dh.addmm_(dR[s], forward.W, beta=int(plan.spec.cell == "gru"))


# --- recorded once, replayed often ------------------------------------------------------------------------------------
# A plan's steps on buffers of their own; run_forward and run_backward take no arguments.
Recorded = namedtuple("Recorded", "forward backward run_forward run_backward")


class Loan:
    """A recorded sequence that one forward pass has to itself, until its backward pass is done or its node is gone."""

    def __init__(self, home: list[Recorded], recorded: Recorded):
        self.home = home
        self.recorded: Recorded | None = recorded

    def give_back(self) -> None:
        if (recorded := self.recorded) is not None:
            self.recorded = None
            self.home.append(recorded)

    __del__ = give_back


class Pool:
    """Recorded sequences. A key is recorded at its second use, so that one odd last batch is not.

    Two sequences of one key in flight at once take two records. At most `bound` are made, and none is destroyed: in
    some versions of torch a graph's end takes away workspaces that others still use (pytorch issue 193402).
    """

    def __init__(self, record: Callable[..., Recorded], bound: int):
        self.record, self.bound, self.made = record, bound, 0
        self.seen: set[Hashable] = set()
        self.idle: dict[Hashable, list[Recorded]] = defaultdict(list)

    def borrow(self, *key: Hashable) -> Loan | None:
        """A record made by record(*key) for one forward pass; None: run the steps one by one."""
        idle = self.idle[key]
        with contextlib.suppress(IndexError):
            return Loan(idle, idle.pop())
        if key not in self.seen or self.made >= self.bound:
            self.seen.add(key)
            return None
        self.made += 1
        try:
            return Loan(idle, self.record(*key))
        except RuntimeError as error:  # no memory for its buffers, or something that cannot be recorded
            self.bound = 0
            reason = str(error.__context__ or error).partition("\n")[0]  # the end of a broken recording raises again
            warnings.warn(f"sequences run step by step, not as CUDA graphs: {reason}", RuntimeWarning, stacklevel=2)
            return None


@functools.cache
def _side_stream(device: torch.device, stream: int) -> torch.cuda.Stream:
    """A stream to record on for each that replays: products recorded on one stream share a workspace."""
    return torch.cuda.Stream(device)


def _record(plan: Plan, stream: int) -> Recorded:
    """Both directions as CUDA graphs. Each runs once before: no kernel may be compiled while a graph records."""
    with torch.inference_mode(False), torch.no_grad():
        forward, backward = _room_for_forward(plan), _room_for_backward(plan) if plan.keep else None
        replays = []
        passes: list[Callable[[], None]] = [functools.partial(_forward_steps, plan, forward)]
        if backward is not None:
            passes.append(functools.partial(_backward_steps, plan, forward, backward))
        for run in passes:
            graph = torch.cuda.CUDAGraph()
            run()
            # thread_local: other threads, as a data loader's that pins memory, may allocate meanwhile
            side = _side_stream(plan.device, stream)
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                run()
            replays.append(graph.replay)
    return Recorded(forward, backward, replays[0], replays[-1])


POOL = Pool(_record, MAX_GRAPHS)


def _stream(device: torch.device) -> int | None:
    """The current stream, if steps can be recorded for it: not on a CPU, nor while it is being recorded itself."""
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return None
    return torch.cuda.current_stream(device).cuda_stream


def _borrow(plan: Plan) -> Loan | None:
    """Autograd runs backward on its forward's stream, so the stream's order is all that a record's buffers need."""
    stream = _stream(plan.device)
    # Hooks on saved tensors (checkpointing, offloading) bring others in their stead; a record's stay where they are.
    hooked = plan.keep and torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    return None if stream is None or hooked else POOL.borrow(plan, stream)


# --- one sequence -----------------------------------------------------------------------------------------------------


def sequence(spec: Spec, inputs: Inputs):
    """See spec.py. All tensors float32 or all float64, on one device.

    Raises ValueError for statistics of several kinds in one spec, other dtypes or an empty sequence.
    """
    i = inputs
    x = i.x.flip(0) if spec.reverse else i.x
    tensors = (x, *(getattr(i, name) for name in TENSORS[1:]))
    given = [tensor for tensor in tensors if tensor is not None]
    kinds = {norm.over for norm in map(spec.norm, ROLES) if norm}
    if len(kinds) > 1:
        raise ValueError(f"the statistics of one sequence are all of one kind, got {' and '.join(sorted(kinds))}")
    if {tensor.dtype for tensor in given} not in ({torch.float32}, {torch.float64}):
        raise ValueError("expected tensors that are all float32 or all float64")
    if 0 in x.shape[:2]:
        raise ValueError(f"expected at least one step and one case, got x of shape {tuple(x.shape)}")
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    T, N, _ = x.shape
    plan = Plan(replace(spec, reverse=False), T, N, i.W_hh.shape[1], x.dtype, x.device, keep)
    if keep:
        y, h_n, c_n, *batch = _Sequence.apply(plan, i, *tensors)
    else:
        with torch.no_grad():
            (y, h_n, c_n, *batch), _, _ = _forward(plan, i.frozen, tensors)
    statistics = dict(zip(plan.batch, zip(batch[::2], batch[1::2], strict=True), strict=True))
    return y.flip(0) if spec.reverse else y, h_n, c_n, statistics


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, inputs, *tensors):
        outputs, forward, loan = _forward(plan, inputs.frozen, tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outputs[3:])
        # A record's buffers too: should it ever be lent again too early, autograd sees that they have changed.
        ctx.save_for_backward(*tensors, *forward)
        ctx.plan, ctx.loan, ctx.frozen, ctx.equations = plan, loan, inputs.frozen, inputs.equations
        return outputs

    @staticmethod
    def backward(ctx, *of_outputs):
        of_outputs = of_outputs[:3]  # none of the batch statistics
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        tensors, forward = dict(zip(TENSORS, saved, strict=False)), Forward(*saved[len(TENSORS) :])
        plan, loan, x, W_ih = ctx.plan, ctx.loan, tensors["x"], tensors["W_ih"]
        if derivatives.wanted(of_outputs):
            inputs = Inputs(**tensors, frozen=ctx.frozen, equations=ctx.equations)
            names = dict(zip(TENSORS, needed, strict=True))
            return None, None, *derivatives.gradients(plan.spec, inputs, of_outputs, names)
        with torch.cuda.device_of(x):
            backward = loan.recorded.backward if loan else _room_for_backward(plan)
            for buffer, gradient in zip(backward[:3], of_outputs, strict=True):
                buffer.zero_() if gradient is None else buffer.copy_(gradient)
            loan.recorded.run_backward() if loan else _backward_steps(plan, forward, backward)
            x_rows, h_rows = x.reshape(plan.T * plan.N, -1), forward.h[:-1].view(plan.T * plan.N, -1)
            dA = backward.dA.view(len(x_rows), -1)
            dR = dA if plan.joined else backward.dR.view(len(x_rows), -1)
            gradients = [
                (dA @ W_ih).view_as(x) if needed[0] else None,
                dA.t() @ x_rows if needed[1] else None,
                dR.t() @ h_rows if needed[2] else None,
                backward.dh.clone() if needed[3] else None,
                backward.dc.clone() if needed[4] else None,
            ]
            parts = zip(backward.sums.split(plan.columns, 1), needed[5:], strict=True)
            gradients += [part.sum(0) if need else None for part, need in parts]
        if loan and not torch._C._autograd._get_current_graph_task_keep_graph():
            loan.give_back()
        return None, None, *gradients


def _forward(plan: Plan, frozen: dict, tensors: tuple) -> tuple[tuple, Forward, Loan | None]:
    """(y, h_n, c_n, mean and variance of each role of `batch`), all in new memory; the buffers; their loan, if lent."""
    x, W_ih, W_hh, h0, c0, *gains_and_biases = tensors
    T, N = plan.T, plan.N
    with torch.cuda.device_of(x):  # where Triton launches; nothing on a CPU
        loan = _borrow(plan)
        recorded = loan.recorded if loan else None
        forward = recorded.forward if recorded else _room_for_forward(plan)
        torch.mm(x.reshape(T * N, -1), W_ih.t(), out=forward.A.view(T * N, -1))
        forward.W.copy_(W_hh)
        forward.h[0].copy_(h0)
        if c0 is not None:
            forward.c[0].copy_(c0)
        parts = forward.theta.split(plan.columns)
        for part, value, neutral in zip(parts, gains_and_biases, (1, 0) * len(ROLES), strict=True):
            part.fill_(neutral) if value is None else part.copy_(value)
        of_role = dict(zip(ROLES, forward.stats.split(plan.widths, -1), strict=True))
        for role, (mean, inverse) in frozen.items():
            of_role[role][:, 0].copy_(mean)
            of_role[role][:, 1].copy_(inverse)
        recorded.run_forward() if recorded else _forward_steps(plan, forward)
        c_n = None if c0 is None else forward.c[T if plan.keep else T % 2].clone()
        batch = [values.clone() for role in plan.batch for values in of_role[role].unbind(1)]
        return (forward.h[1:].clone(), forward.h[T].clone(), c_n, *batch), forward, loan
