"""What a fused sequence kernel is asked for: one layer, one direction, all time steps.

The kernels (cpu.py, cuda.py) share one signature, so that the layer does not know which of them runs:

    sequence(spec, inputs) -> y (T, N, H), h_n (N, H), c_n (N, H) or None, {role: (mean, var)}

With A = x W_ih' for all steps at once, R_t = h_{t-1} W_hh', and n_role the normaliser of a role without its bias,
n(z) = g * (z - mu) / sqrt(var + eps), or z itself where the role has none:

    rnn     h_t = tanh(z_t)
    lstm    (i,f,g,o) = z_t ;  c_t = s(f) c_{t-1} + s(i) tanh(g) ;  h_t = s(o) tanh(n_cell(c_t) + b_cell)
            z_t = n_ih(A_t + R_t) + b_ih               if joined
            z_t = n_ih(A_t) + b_ih + n_hh(R_t)         otherwise
    gru     u = n_ih(A_t) + b_ih ;  v = n_hh(R_t) + b_hh ;  r = s(u_r + v_r) ;  z = s(u_z + v_z)
            n = tanh(u_n + r v_n) ;  h_t = (1 - z) n + z h_{t-1}

Of sequences of several lengths the longest comes first, and a step has the cases that still run: x (rows, I) and
y (rows, H) hold the steps after each other, as a PackedSequence does, and h_n, c_n are the states at each case's end.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
ROLES = ("ih", "hh", "cell")  # what a kernel normalises: W_ih x (or the sum of both terms), W_hh h, the cell state


@dataclass(frozen=True)
class Statistics:
    """The sets of values that a normaliser takes its mean and variance over.

    over="case": for each case, over spans of adjoining features (LN: one; per gate: several; GN: one a group).
    over="batch": for each feature, over the cases of this step's batch; of a step with a single one they are given.
    over="frozen": given, by step and feature.
    """

    over: str
    eps: float = 0.0
    spans: tuple[int, ...] = ()  # sizes, in order; only with over="case"
    centred: bool = True  # False: mu = 0 and the mean square in place of the variance; only with over="case"
    unbiased: bool = False  # the variance of n cases is over n - 1; only with over="batch"

    def __str__(self) -> str:
        spans = ",".join([str(size) for size in self.spans])
        return f"{self.over}/{self.eps!r}/{spans}/{int(self.centred)}/{int(self.unbiased)}"

    @classmethod
    def read(cls, text: str) -> "Statistics":
        """Return what `str` wrote."""
        over, eps, spans, *flags = text.split("/")
        sizes = tuple(int(size) for size in spans.split(",") if size)
        return cls(over, float(eps), sizes, *(bool(int(flag)) for flag in flags))


@dataclass(frozen=True)
class Spec:
    """What is static about a sequence; hashable."""

    cell: str  # rnn, lstm or gru
    joined: bool  # n_ih acts on the sum of both terms; never for a gru, and then norm_hh is None
    norm_ih: Statistics | None = None
    norm_hh: Statistics | None = None
    norm_cell: Statistics | None = None  # lstm only
    reverse: bool = False  # from the last step to the first; all sequences of one length
    recompute: bool = False  # backward runs forward again, which keeps nothing for it
    # The factors of products are rounded to it where the processor multiplies in it; sums and all else are float32.
    bfloat16: bool = False

    def norm(self, role: str) -> Statistics | None:
        return getattr(self, f"norm_{role}")

    def roles(self, over: str) -> list[str]:
        """Return the roles with statistics of this kind, in the order of ROLES."""
        return [role for role in ROLES if getattr(self.norm(role), "over", None) == over]

    def __str__(self) -> str:
        norms = [str(norm or "-") for norm in (self.norm_ih, self.norm_hh, self.norm_cell)]
        flags = (self.joined, self.reverse, self.recompute, self.bfloat16)
        return " ".join([self.cell, *norms, *(str(int(flag)) for flag in flags)])

    @classmethod
    @functools.cache
    def read(cls, text: str) -> "Spec":
        """Return what `str` wrote."""
        cell, *words = text.split()
        ih, hh, of_cell = (None if norm == "-" else Statistics.read(norm) for norm in words[:3])
        joined, *flags = (bool(int(flag)) for flag in words[3:])
        return cls(cell, joined, ih, hh, of_cell, *flags)


@dataclass
class Inputs:
    """The tensors of a sequence. Those before `frozen` may require gradients.

    G gates: 1 in an rnn, 4 in an lstm (i, f, g, o), 3 in a gru (r, z, n).
    """

    x: Tensor  # (T, N, I), or (rows, I) where `lengths` is given
    W_ih: Tensor  # (G*H, I)
    W_hh: Tensor  # (G*H, H)
    h0: Tensor  # (N, H)
    c0: Tensor | None = None  # (N, H), lstm
    b_ih: Tensor | None = None  # (G*H,), None for none
    b_hh: Tensor | None = None  # (G*H,), gru
    g_ih: Tensor | None = None  # (G*H,), the gain where norm_ih is set
    g_hh: Tensor | None = None  # (G*H,)
    g_cell: Tensor | None = None  # (H,)
    b_cell: Tensor | None = None  # (H,)
    # role "ih", "hh" or "cell": mean and 1/sqrt(var + eps), both (T, features), where its statistics are frozen, or of
    # the last steps alone, where a single case is left
    frozen: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    lengths: Tensor | None = None  # (N,) int64 on the CPU, falling; None: all sequences run to the last step
    reset: Tensor | None = None  # bool, (T, N) or (rows,): whether the states before it are zeros
    equations: Callable | None = None  # loop.loop of a cell, for derivatives that no kernel has
