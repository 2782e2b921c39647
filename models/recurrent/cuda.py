"""The fused sequence on a GPU: one matrix product and one Triton kernel a step, replayed as CUDA graphs.

NOT YET RUN ON A GPU. The kernel is tested through Triton's interpreter on CPU tensors and compiled, not run, for
compute capabilities 8.0 and 9.0; the pool of graphs is tested with plain loops in place of recorded ones. What only
a GPU can show (recording, replaying, streams, speed) is unmeasured.

Forward: A = x W_ih' for all steps in one product; then per step R_t = h_{t-1} W_hh' and the kernel `_step`, which
normalises the raw A_t and R_t, and does the gates and the cell's norm. A_t is normalised there and not for all steps
beforehand, since the step reads it anyway: that saves writing and reading it once more in both passes. Backward: per
step `_step` again, which makes the forward's values anew from A_t and R_t (only these, h and c are kept) and goes on to
the gradients, and one product; then one product each for dx, dW_ih and dW_hh. Gradients of gains and shifts are summed
over the steps by the program that owns their cases or units, without atomics, so that runs agree bit for bit.

Everything is in the order of the steps taken; `sequence` turns a reversed sequence around.
"""

import contextlib
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.recurrent.spec import GATES, Inputs, Spec

ROLES = ("in", "hh", "cell")

# --- the kernel ------------------------------------------------------------------------------------------------------
# A program holds a tile (BN cases, BH units) of each gate, as a tuple over the gates. Where statistics are over the
# batch it holds all cases of a few units, otherwise all units of one case, so every sum stays within one program.
#
# theta  (4F + 2H)         gain and shift, each F = G*H: of "in", of "hh"; each H: of "cell".  `sums` has the same columns
# stats  (T, 2, 2F + H)    of "in", "hh", "cell": mean and variance (batch), or mean and 1/sigma (frozen)
# NORM   a role's normaliser, None or a tuple with these places:
KIND, SPANS, EPS, CENTRED, EDGES = (tl.constexpr(place) for place in range(5))  # EDGES: where its spans' edges begin


@triton.jit
def _tanh(x):
    """tanh, to the last digits near 0 too, where 1 - 2/(e^(2x) + 1) cancels. The polynomials are those of Cephes."""
    x2 = x * x
    P = (-9.64399179425052238628e-1 * x2 - 9.92877231001918586564e1) * x2 - 1.61468768441708447952e3
    Q = ((x2 + 1.12811678491632931402e2) * x2 + 2.23548839060100448583e3) * x2 + 4.84406305325125486048e3
    decay = tl.exp(-2 * tl.abs(x))
    far = (1 - decay) / (1 + decay)
    return tl.where(tl.abs(x) < 0.625, x + x * x2 * (P / Q), tl.where(x < 0, -far, far))


@triton.jit
def _read(source, ok, H, G: tl.constexpr):
    tiles = ()
    for k in tl.static_range(G):
        tiles += (tl.load(source + k * H, mask=ok, other=0.0),)
    return tiles


@triton.jit
def _write(target, tiles, ok, H):
    for k in tl.static_range(len(tiles)):
        tl.store(target + k * H, tiles[k], mask=ok)


@triton.jit
def _plus(a, b):
    tiles = ()
    for k in tl.static_range(len(a)):
        tiles += (a[k] + b[k],)
    return tiles


@triton.jit
def _times(a, b):
    tiles = ()
    for k in tl.static_range(len(a)):
        tiles += (a[k] * b[k],)
    return tiles


@triton.jit
def _mean(x, edges, u, ok, N, H, NORM: tl.constexpr):
    """E[x] over the set of values that each value of x shares its statistics with; broadcasts with x."""
    means = ()
    if NORM[KIND] == "batch":
        for k in tl.static_range(len(x)):
            means += (tl.sum(tl.where(ok, x[k], 0.0), 0)[None, :] / N,)
    elif NORM[SPANS] == 1:
        total = tl.where(ok, x[0], 0.0)
        for k in tl.static_range(1, len(x)):
            total += tl.where(ok, x[k], 0.0)
        mean = tl.sum(total, 1)[:, None] / (len(x) * H)
        for k in tl.static_range(len(x)):
            means += (mean,)
    else:
        means = x
        for span in range(NORM[SPANS]):
            low = tl.load(edges + NORM[EDGES] + span)
            high = tl.load(edges + NORM[EDGES] + span + 1)
            total = tl.zeros_like(x[0])
            for k in tl.static_range(len(x)):
                total += tl.where(ok & (k * H + u >= low) & (k * H + u < high), x[k], 0.0)
            mean = tl.sum(total, 1)[:, None] / (high - low)
            updated = ()
            for k in tl.static_range(len(x)):
                updated += (tl.where((k * H + u >= low) & (k * H + u < high), mean, means[k]),)
            means = updated
    return means


@triton.jit
def _standardise(z, stats, width, edges, u, ok, N, H, NORM: tl.constexpr, STORE: tl.constexpr):
    """z^ = (z - mu) / sigma and 1/sigma, sigma^2 = E[(z - mu)^2] + eps. STORE: write a batch's mean and variance."""
    z_hat, inverse = z, z
    if NORM is not None:
        z_hat, inverse = (), ()
        if NORM[KIND] == "frozen":
            mu, inverse = _read(stats + u, u < H, H, len(z)), _read(stats + width + u, u < H, H, len(z))
            for k in tl.static_range(len(z)):
                z_hat += ((z[k] - mu[k]) * inverse[k],)
        else:
            deviation = z
            if NORM[CENTRED]:
                mu = _mean(z, edges, u, ok, N, H, NORM)
                deviation = ()
                for k in tl.static_range(len(z)):
                    deviation += (z[k] - mu[k],)
            var = _mean(_times(deviation, deviation), edges, u, ok, N, H, NORM)
            for k in tl.static_range(len(z)):
                inverse += (tl.rsqrt(var[k] + NORM[EPS]),)
            z_hat = _times(deviation, inverse)
            if STORE and NORM[KIND] == "batch":
                _write(stats + u, mu, u < H, H)
                _write(stats + width + u, var, u < H, H)
    return z_hat, inverse


@triton.jit
def _affine(z_hat, theta, u, H, NORM: tl.constexpr):
    """g z^ + b, or z + b where the role has no normaliser."""
    G: tl.constexpr = len(z_hat)
    if NORM is not None:
        z_hat = _times(z_hat, _read(theta + u, u < H, H, G))
    return _plus(z_hat, _read(theta + G * H + u, u < H, H, G))


@triton.jit
def _through(dy, z_hat, inverse, theta, sums, edges, u, ok, N, H, NORM: tl.constexpr, SHIFT: tl.constexpr):
    """dz from dy, y = g z^ + b: dz = (v - E[v] - z^ E[v z^]) / sigma, v = g dy, without E[v] where mu = 0.

    Adds dg = sum dy z^ and, if SHIFT, db = sum dy to the sums over the steps.
    """
    G: tl.constexpr = len(dy)
    dz = dy
    if NORM is not None:
        v = _times(dy, _read(theta + u, u < H, H, G))
        dz = _times(v, inverse)
        if NORM[KIND] != "frozen":
            along = _mean(_times(v, z_hat), edges, u, ok, N, H, NORM)
            dz = ()
            for k in tl.static_range(G):
                dz += (v[k] - z_hat[k] * along[k],)
            if NORM[CENTRED]:
                mean = _mean(v, edges, u, ok, N, H, NORM)
                centred = ()
                for k in tl.static_range(G):
                    centred += (dz[k] - mean[k],)
                dz = centred
            dz = _times(dz, inverse)
        _add(sums + u, _times(dy, z_hat), u, ok, H)
    if SHIFT:
        _add(sums + G * H + u, dy, u, ok, H)
    return dz


@triton.jit
def _add(sums, terms, u, ok, H):
    for k in tl.static_range(len(terms)):
        total = tl.load(sums + k * H, mask=u < H, other=0.0) + tl.sum(tl.where(ok, terms[k], 0.0), 0)[None, :]
        tl.store(sums + k * H, total, mask=u < H)


@triton.jit(do_not_specialize=["s"])
def _step(
    s, A, R, h, c, theta, stats, edges,
    dy, dh, dc, dA, dR, sums,
    N, H,
    CELL: tl.constexpr, G: tl.constexpr, JOINED: tl.constexpr,
    IN: tl.constexpr, HH: tl.constexpr, CELL_NORM: tl.constexpr,
    KEEP: tl.constexpr, BACKWARD: tl.constexpr, BN: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Step s: h_t and c_t from A_t and R_t; or, BACKWARD, from dh and dc of this step dA_t, dR_t and dc of the one before.

    A, dA (T, N, F). R, dR likewise, or R (1, N, F) without KEEP; none where JOINED, when A holds both terms' sum.
    h (T+1, N, H), row 0 the initial state; c likewise, or (2, N, H) in turns without KEEP. dy (T, N, H). dh (N, H): the
    gradient that reaches h_t from step t+1; left behind is what of it reaches h_{t-1} past the recurrent product.
    """
    F = G * H
    n = tl.program_id(0) * BN + tl.arange(0, BN)[:, None]
    u = tl.program_id(1) * BH + tl.arange(0, BH)[None, :]
    ok = (n < N) & (u < H)
    s = tl.cast(s, tl.int64)  # an offset can lie beyond 2^31
    width = 2 * F + H
    stats_s = stats
    if stats is not None:
        stats_s = stats + s * 2 * width
    A_s = s * N * F + n * F + u
    h_s = s * N * H + n * H + u  # h_{t-1}; h_t is one row on
    unit = n * H + u

    a_hat, a_inverse = _standardise(
        _read(A + A_s, ok, H, G), stats_s, width, edges, u, ok, N, H, IN, not BACKWARD
    )
    z = _affine(a_hat, theta, u, H, IN)
    if not JOINED:
        R_s = A_s if KEEP else n * F + u
        hh_stats = stats_s
        if stats is not None:
            hh_stats = stats_s + F
        r_hat, r_inverse = _standardise(
            _read(R + R_s, ok, H, G), hh_stats, width, edges, u, ok, N, H, HH, not BACKWARD
        )
        v = _affine(r_hat, theta + 2 * F, u, H, HH)
        if CELL != "gru":
            z = _plus(z, v)

    if CELL == "rnn":
        h_t = _tanh(z[0])
    if CELL == "lstm":
        c_old = h_s
        c_new = h_s + N * H
        if not KEEP:
            c_old = (s % 2) * N * H + unit
            c_new = (1 - s % 2) * N * H + unit
        c_before = tl.load(c + c_old, mask=ok, other=0.0)
        i, f, g, o = tl.sigmoid(z[0]), tl.sigmoid(z[1]), _tanh(z[2]), tl.sigmoid(z[3])
        c_t = f * c_before + i * g
        cell_stats = stats_s
        if stats is not None:
            cell_stats = stats_s + 2 * F
        c_hat, c_inverse = _standardise((c_t,), cell_stats, width, edges, u, ok, N, H, CELL_NORM, not BACKWARD)
        m = _tanh(_affine(c_hat, theta + 4 * F, u, H, CELL_NORM)[0])
        h_t = o * m
    if CELL == "gru":
        h_before = tl.load(h + h_s, mask=ok, other=0.0)
        r, keep = tl.sigmoid(z[0] + v[0]), tl.sigmoid(z[1] + v[1])
        new = _tanh(z[2] + r * v[2])
        h_t = new + keep * (h_before - new)

    if not BACKWARD:
        tl.store(h + h_s + N * H, h_t, mask=ok)
        if CELL == "lstm":
            tl.store(c + c_new, c_t, mask=ok)
    else:
        sums_n = sums + tl.program_id(0) * (4 * F + 2 * H)
        d = tl.load(dh + unit, mask=ok, other=0.0) + tl.load(dy + h_s, mask=ok, other=0.0)
        if CELL == "rnn":
            dz = (d * (1 - h_t * h_t),)
        if CELL == "lstm":
            dm = (d * o * (1 - m * m),)
            of_cell = _through(dm, c_hat, c_inverse, theta + 4 * F, sums_n + 4 * F, edges, u, ok, N, H, CELL_NORM, True)
            dc_t = tl.load(dc + unit, mask=ok, other=0.0) + of_cell[0]
            dz = (
                dc_t * g * i * (1 - i),
                dc_t * c_before * f * (1 - f),
                dc_t * i * (1 - g * g),
                d * m * o * (1 - o),
            )
            tl.store(dc + unit, dc_t * f, mask=ok)
        dv = ()
        if CELL == "gru":
            dn = d * (1 - keep) * (1 - new * new)
            dr = dn * v[2] * r * (1 - r)
            dkeep = d * (h_before - new) * keep * (1 - keep)
            dz = (dr, dkeep, dn)
            dv = (dr, dkeep, dn * r)
            tl.store(dh + unit, d * keep, mask=ok)
        else:
            dv = dz
        da = _through(dz, a_hat, a_inverse, theta, sums_n, edges, u, ok, N, H, IN, True)
        _write(dA + A_s, da, ok, H)
        if not JOINED:
            at_hh = sums_n + 2 * F
            dr_t = _through(dv, r_hat, r_inverse, theta + 2 * F, at_hh, edges, u, ok, N, H, HH, CELL == "gru")
            _write(dR + A_s, dr_t, ok, H)


# --- all steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """All that decides which kernels run and how large the buffers are; hashable. keep: for a backward pass."""

    spec: Spec
    T: int
    N: int
    H: int
    dtype: torch.dtype
    device: torch.device
    keep: bool

    @functools.cached_property
    def kind(self) -> str | None:
        """Of all roles: batch, case or frozen; None without any normaliser."""
        kinds = {norm.over for role in ROLES if (norm := self.spec.norm(role))}
        if len(kinds) > 1:
            raise ValueError(f"one sequence has statistics of one kind, got {' and '.join(sorted(kinds))}")
        return next(iter(kinds), None)

    @functools.cached_property
    def joined(self) -> bool:
        """Whether A_t and R_t are added before anything else."""
        plain = self.spec.norm_in is None and self.spec.norm_hh is None
        return self.spec.joined or (plain and self.spec.cell != "gru")

    @functools.cached_property
    def features(self) -> dict[str, int]:
        F = GATES[self.spec.cell] * self.H
        return {"in": F, "hh": F, "cell": self.H}

    @functools.cached_property
    def columns(self) -> list[int]:
        """Sizes of theta's parts: gain and shift of each role."""
        return [width for width in self.features.values() for _ in range(2)]

    @functools.cached_property
    def tile(self) -> tuple[int, int]:
        """Cases and units of a program: all cases of a few units; or one case, of a small layer a few, for 32 threads."""
        cases, units = triton.next_power_of_2(self.N), triton.next_power_of_2(self.H)
        if self.kind == "batch":
            return cases, min(units, max(8, 256 // cases))
        return min(cases, max(1, 128 // units)), units

    @functools.cached_property
    def grid(self) -> tuple[int, int]:
        BN, BH = self.tile
        return triton.cdiv(self.N, BN), triton.cdiv(self.H, BH)

    @functools.cached_property
    def constants(self) -> dict[str, Any]:
        norms, edges = {}, 0
        for role in ROLES:
            norm = self.spec.norm(role)
            norms[role] = norm and (norm.over, len(norm.spans), float(norm.eps), norm.centred, edges)
            edges += len(norm.spans) + 1 if norm else 0
        BN, BH = self.tile
        return {
            **{"CELL": self.spec.cell, "G": GATES[self.spec.cell], "JOINED": self.joined, "KEEP": self.keep},
            **{"IN": norms["in"], "HH": norms["hh"], "CELL_NORM": norms["cell"], "BN": BN, "BH": BH},
            "num_warps": min(8, max(1, BN * BH // 128)),  # four values of a tile to a thread: no registers spill
        }


class Forward(NamedTuple):
    """What the steps read and write, as in `_step`; W is W_hh."""

    A: Tensor
    R: Tensor | None
    h: Tensor
    c: Tensor | None
    theta: Tensor
    stats: Tensor | None
    edges: Tensor | None
    W: Tensor


class Backward(NamedTuple):
    """Likewise; sums has a row for each block of cases."""

    dy: Tensor
    dh: Tensor
    dc: Tensor | None
    dA: Tensor
    dR: Tensor | None
    sums: Tensor


@functools.cache
def _edges(spans: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """The first feature of each span and one past the last, role after role. Cached: no copy while a graph records."""
    with torch.inference_mode(False):
        edges = [edge for sizes in spans for edge in itertools.accumulate(sizes, initial=0)]
        return torch.tensor(edges, dtype=torch.int32, device=device)


def _room_for_forward(plan: Plan) -> Forward:
    new = functools.partial(torch.empty, dtype=plan.dtype, device=plan.device)
    T, N, H, F = plan.T, plan.N, plan.H, plan.features["in"]
    spans = tuple(norm.spans for role in ROLES if (norm := plan.spec.norm(role)))
    return Forward(
        A=new(T, N, F),
        R=None if plan.joined else new(T if plan.keep else 1, N, F),
        h=new(T + 1, N, H),
        c=new(T + 1 if plan.keep else 2, N, H) if plan.spec.cell == "lstm" else None,
        theta=new(sum(plan.columns)),
        stats=new(T, 2, 2 * F + H) if plan.kind in ("batch", "frozen") else None,
        edges=_edges(spans, plan.device) if any(len(sizes) > 1 for sizes in spans) else None,
        W=new(F, H),
    )


def _room_for_backward(plan: Plan) -> Backward:
    new = functools.partial(torch.empty, dtype=plan.dtype, device=plan.device)
    T, N, H, F = plan.T, plan.N, plan.H, plan.features["in"]
    return Backward(
        dy=new(T, N, H),
        dh=new(N, H),
        dc=new(N, H) if plan.spec.cell == "lstm" else None,
        dA=new(T, N, F),
        dR=None if plan.joined else new(T, N, F),
        sums=new(plan.grid[0], sum(plan.columns)),
    )


def _launch(plan: Plan, s: int, forward: Forward, backward: Backward | None = None) -> None:
    *read, _ = forward
    written = backward or (None,) * len(Backward._fields)
    _step[plan.grid](s, *read, *written, plan.N, plan.H, BACKWARD=backward is not None, **plan.constants)


def _forward_steps(plan: Plan, forward: Forward) -> None:
    A, R, h, W = forward.A, forward.R, forward.h, forward.W.t()
    for s in range(plan.T):
        if plan.joined:
            A[s].addmm_(h[s], W)
        else:
            torch.mm(h[s], W, out=R[s if plan.keep else 0])
        _launch(plan, s, forward)


def _backward_steps(plan: Plan, forward: Forward, backward: Backward) -> None:
    dz = backward.dA if plan.joined else backward.dR
    backward.sums.zero_()
    for s in reversed(range(plan.T)):
        _launch(plan, s, forward, backward)
        # Only a gru's state reaches the next one past the product too.
        backward.dh.addmm_(dz[s], forward.W, beta=int(plan.spec.cell == "gru"))


# --- recorded once, replayed -----------------------------------------------------------------------------------------


class Recorded(NamedTuple):
    """All steps of a plan on buffers of their own; `run_...` without arguments."""

    forward: Forward
    backward: Backward | None
    run_forward: Callable[[], None]
    run_backward: Callable[[], None] | None


class Loan:
    """A recorded sequence that one forward pass has to itself until its backward pass is done or its node is gone."""

    def __init__(self, home: list[Recorded], recorded: Recorded):
        self.home, self.recorded = home, recorded

    def give_back(self) -> None:
        if (recorded := self.recorded) is not None:
            self.recorded = None
            self.home.append(recorded)

    __del__ = give_back


class Pool:
    """Recorded sequences by key. A key is recorded at its second use, so that the last batch of an odd size is not.

    Its buffers are one forward pass's alone: two sequences of one key in flight take two records. At most `bound` are
    ever made, and none is destroyed: in some versions of torch a graph takes workspaces of others with it (pytorch
    issue 193402).
    """

    def __init__(self, record: Callable[..., Recorded], bound: int):
        self.record, self.bound, self.made = record, bound, 0
        self.seen: set[Hashable] = set()
        self.idle: dict[Hashable, list[Recorded]] = defaultdict(list)

    def borrow(self, plan: Plan, *place: Hashable) -> Loan | None:
        """A loan for this plan at this place (a stream); None: run the steps one by one."""
        key = (plan, *place)
        if self.idle[key]:
            return Loan(self.idle[key], self.idle[key].pop())
        if key not in self.seen:
            self.seen.add(key)
            return None
        if self.made >= self.bound:
            return None
        self.made += 1
        return Loan(self.idle[key], self.record(plan, *place))


@functools.cache
def _side_stream(device: torch.device, stream: int):
    """A stream to record on for each stream that replays, so that their matrix products share no workspace."""
    return torch.cuda.Stream(device)


def _capture(plan: Plan, stream: int) -> Recorded:
    """Both directions as CUDA graphs. Both run once before: a kernel must not be compiled while a graph records."""
    with torch.inference_mode(False), torch.no_grad():
        forward = _room_for_forward(plan)
        loops = [functools.partial(_forward_steps, plan, forward)]
        backward = _room_for_backward(plan) if plan.keep else None
        if backward:
            loops.append(functools.partial(_backward_steps, plan, forward, backward))
        replays = []
        for loop in loops:
            loop()
            graph = torch.cuda.CUDAGraph()
            # thread_local: other threads, as a data loader's that pins memory, go on meanwhile.
            side = _side_stream(plan.device, stream)
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                loop()
            replays.append(graph.replay)
    return Recorded(forward, backward, replays[0], replays[1] if backward else None)


MAX_GRAPHS = 16  # sequences recorded in this process; each keeps its buffers. 0 records none
POOL = Pool(_capture, MAX_GRAPHS)


def _borrow(plan: Plan) -> Loan | None:
    if plan.device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return None
    # Autograd runs backward on the forward's stream, so one stream's order is all the order that the buffers need.
    return POOL.borrow(plan, torch.cuda.current_stream(plan.device).cuda_stream)


# --- one sequence ----------------------------------------------------------------------------------------------------


def available() -> bool:
    """True: this module could be imported, so Triton is there."""
    return True


def sequence(spec: Spec, inputs: Inputs):
    """See spec.py. All tensors on one device, float32 or float64.

    Raises ValueError for roles with statistics of several kinds, an empty sequence or tensors of several dtypes;
    RuntimeError where a gradient is to be differentiated again.
    """
    i = inputs
    x = i.x.flip(0) if spec.reverse else i.x
    tensors = (x, i.W_ih, i.W_hh, i.h0, i.c0, i.g_in, i.b_in, i.g_hh, i.b_hh, i.g_cell, i.b_cell)
    given = [tensor for tensor in tensors if tensor is not None]
    if {tensor.dtype for tensor in given} not in ({torch.float32}, {torch.float64}):
        raise ValueError("all tensors must be float32, or all float64")
    if 0 in x.shape[:2]:
        raise ValueError(f"expected at least one step and one case, got an input of shape {tuple(x.shape)}")
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    plan = Plan(replace(spec, reverse=False), *x.shape[:2], i.W_hh.shape[1], x.dtype, x.device, keep)
    if keep:
        y, h_n, c_n, *batch = _Sequence.apply(plan, i.frozen, *tensors)
    else:
        with torch.no_grad():
            (y, h_n, c_n, *batch), _, _ = _forward(plan, i.frozen, tensors)
    roles = [role for role in ROLES if spec.norm(role)] if plan.kind == "batch" else []
    statistics = dict(zip(roles, zip(batch[::2], batch[1::2], strict=True), strict=True))
    return y.flip(0) if spec.reverse else y, h_n, c_n, statistics


def _forward(plan: Plan, frozen: dict, tensors: tuple):
    """(y, h_n, c_n, mean and variance of each role with a batch's), the buffers and their loan, if they are lent."""
    x, W_ih, W_hh, h0, c0, *gains_and_shifts = tensors
    with _on(plan.device):
        loan = _borrow(plan)
        forward = loan.recorded.forward if loan else _room_for_forward(plan)
        torch.mm(x.reshape(plan.T * plan.N, -1), W_ih.t(), out=forward.A.view(plan.T * plan.N, -1))
        forward.W.copy_(W_hh)
        forward.h[0].copy_(h0)
        if c0 is not None:
            forward.c[0].copy_(c0)
        parts = forward.theta.split(plan.columns)
        for part, value, absent in zip(parts, gains_and_shifts, (1, 0) * len(ROLES), strict=True):
            part.fill_(absent) if value is None else part.copy_(value)
        for role, given in frozen.items():
            for row, value in enumerate(given):
                _columns(plan, forward.stats, role)[:, row].copy_(value)
        loan.recorded.run_forward() if loan else _forward_steps(plan, forward)
        outputs = [
            forward.h[1:].clone(),
            forward.h[plan.T].clone(),
            None if c0 is None else forward.c[plan.T if plan.keep else plan.T % 2].clone(),
        ]
        if plan.kind == "batch":
            for role in ROLES:
                if plan.spec.norm(role):
                    outputs += [value.clone() for value in _columns(plan, forward.stats, role).unbind(1)]
    return tuple(outputs), forward, loan


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, frozen, *tensors):
        outputs, forward, loan = _forward(plan, frozen, tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outputs[3:])
        ctx.save_for_backward(*tensors[:2], *(() if loan else forward))
        ctx.plan, ctx.loan = plan, loan
        return outputs

    @staticmethod
    def backward(ctx, dy, dh_n, dc_n, *_):
        if torch.is_grad_enabled():
            raise RuntimeError('the fused kernels have first derivatives only; use backend="reference" for higher ones')
        x, W_ih, *saved = ctx.saved_tensors
        plan, loan, needed = ctx.plan, ctx.loan, ctx.needs_input_grad[2:]
        with _on(plan.device):
            forward = loan.recorded.forward if loan else Forward(*saved)
            backward = loan.recorded.backward if loan else _room_for_backward(plan)
            for buffer, gradient in ((backward.dy, dy), (backward.dh, dh_n), (backward.dc, dc_n)):
                if buffer is not None:
                    buffer.zero_() if gradient is None else buffer.copy_(gradient)
            loan.recorded.run_backward() if loan else _backward_steps(plan, forward, backward)
            gradients = _gradients(plan, x, W_ih, forward, backward, needed)
            if loan and not torch._C._autograd._get_current_graph_task_keep_graph():
                loan.give_back()
        return None, None, *gradients


def _gradients(plan: Plan, x: Tensor, W_ih: Tensor, forward: Forward, backward: Backward, needed: tuple) -> list:
    """Of the tensors of `sequence`, in new memory, None where not needed."""
    rows = plan.T * plan.N
    dA, h_before = backward.dA.view(rows, -1), forward.h[:-1].reshape(rows, -1)
    dR = dA if plan.joined else backward.dR.view(rows, -1)
    of_matrices = (
        lambda: (dA @ W_ih).view_as(x),
        lambda: dA.t() @ x.reshape(rows, -1),
        lambda: dR.t() @ h_before,
        backward.dh.clone,
        lambda: backward.dc.clone(),
    )
    of_theta = [functools.partial(part.sum, 0) for part in backward.sums.split(plan.columns, 1)]
    return [make() if need else None for make, need in zip((*of_matrices, *of_theta), needed, strict=True)]


def _columns(plan: Plan, stats: Tensor, role: str) -> Tensor:
    """A role's part of `stats`: (T, 2, features)."""
    return stats.split(list(plan.features.values()), 2)[ROLES.index(role)]


def _on(device: torch.device):
    """Makes the device the current one: Triton launches there."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
