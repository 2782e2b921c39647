"""What the CPU's kernels are handed: the structures of kernel/interface.h, and one block of memory for all arrays."""

import ctypes
import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

from .compiler import library
from .spec import GATES, ROLES, Spec, Statistics

POINTER, INT, INT64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
OVER = {"case": 1, "batch": 2, "frozen": 3}
CELL = {"rnn": 0, "lstm": 1, "gru": 2}
# Rows (steps times cases) of the input's product that are made at once: enough to use each weight often, few enough to
# be in the cache when their steps come.
TOGETHER = 48


def _fields(kind, names: str) -> list:
    return [(name, kind) for name in names.split()]


class Norm(ctypes.Structure):
    """`struct Norm` of kernel/interface.h."""

    __slots__ = ()  # a misspelt field is an error
    _fields_ = [
        *_fields(INT, "over spans centred unbiased"),
        ("ends", POINTER),
        ("eps", ctypes.c_double),
        ("width", INT64),
        *_fields(POINTER, "gain mean rstd var gain_grad"),
    ]


class Sequence(ctypes.Structure):
    """`struct Sequence` of kernel/interface.h."""

    __slots__ = ()  # a misspelt field is an error
    _fields_ = [
        *_fields(INT, "cell joined reverse T N I H threads bfloat16 together window"),
        *_fields(INT64, "r_width gates_width c_width u_width"),
        *_fields(Norm, "norm_ih norm_hh norm_cell"),
        *_fields(POINTER, "first_rows reset"),
        *_fields(POINTER, "x W_ih packed_ih W_hh packed_hh b_ih b_hh b_cell A R gates v u c h"),
        *_fields(POINTER, "h0 c0 h_n c_n"),
        *_fields(POINTER, "dy dh_last dc_last dA dR dx dh dc db_ih db_hh db_cell"),
    ]


WORD = ctypes.sizeof(POINTER)
Words = ctypes.c_size_t * (ctypes.sizeof(Sequence) // WORD)  # a Sequence, as its pointers see it


@dataclass(frozen=True)
class Plan:
    """What is the same for all sequences of a Spec and of the same sizes."""

    starts: dict[str, int]  # where each array of the block begins, in elements
    size: int  # of the block
    joined_gradient: bool  # both terms have the same gradient
    static: bytes  # the Sequence without its pointers
    pointers: tuple[tuple[int, int], ...]  # into the block: which of the Sequence's Words one is; its offset in bytes
    ends: tuple  # keeps alive what `static` points to
    T: int


class Sizes(NamedTuple):
    T: int
    N: int
    rows: int  # T*N where all sequences are of one length
    I: int  # noqa: E741
    H: int


def layout(spec: Spec, sizes: Sizes, itemsize: int, keep: bool) -> tuple[dict[str, int], int]:
    """Return where each array of the block begins, and the block's size, in elements. With `keep`, the sizes may be
    symbols.

    keep: room for what backward needs of all steps; otherwise the buffers of one step, or of a few, serve all.
    """
    T, N, rows, I, H = sizes  # noqa: E741
    m, kept = GATES[spec.cell] * H, rows if keep else N
    window = T if keep else _window(spec, sizes, keep)
    in_window = rows if keep or window == T else window * N
    room = {"A": in_window * m, "packed_hh": packed(spec, H, m, itemsize), "packed_ih": packed(spec, I, m, itemsize)}
    if not spec.joined:
        room["R"] = (kept if spec.norm_hh else N) * m
    if spec.cell != "rnn" and spec.norm_ih:
        room["gates"] = kept * m  # otherwise they overwrite A
    if spec.cell == "lstm":
        room |= {"u": kept * H, "c": (N + rows if keep else N) * H}
    if spec.cell == "gru":
        room["v"] = kept * H
    for role in ROLES:
        norm, features = spec.norm(role), H if role == "cell" else m
        if norm and norm.over == "case":
            room |= {f"{role}_{name}": kept * len(norm.spans) for name in ("mean", "rstd")}
        if norm and norm.over == "batch":
            room |= {f"{role}_{name}": T * features for name in ("mean", "rstd", "var")}
    starts, end = {}, 0
    for name, size in room.items():
        starts[name] = end
        end += -(-size // 16) * 16  # a cache line of floats
    return starts, end


def factor_bytes(spec: Spec, itemsize: int) -> int:
    """Return the size of an element of a product's factors: 2 where they are rounded to bfloat16."""
    return 2 if spec.bfloat16 and library().has_bfloat16() else itemsize


def packed(spec: Spec, K: int, N: int, itemsize: int) -> int:
    """Return the elements of the sequence's type that a packed matrix (K, N) takes."""
    factor = factor_bytes(spec, itemsize)
    step, panel = library().packed_rows(1, factor), library().packed_columns(1, factor)
    return (-(-K // step) * step) * (-(-N // panel) * panel) * factor // itemsize


def _together(sizes: Sizes) -> int:
    """Return of how many steps the inputs are multiplied at once."""
    return max(1, min(sizes.T, TOGETHER // sizes.N))


def _window(spec: Spec, sizes: Sizes, keep: bool) -> int:
    """Return how many steps A has room for."""
    return sizes.T if keep or spec.roles("batch") else _together(sizes)


@functools.lru_cache(256)
def plan_of(spec: Spec, sizes: Sizes, itemsize: int, keep: bool) -> Plan:
    """Return the plan of a sequence; see `layout`."""
    T, N, _, I, H = sizes  # noqa: E741
    m = GATES[spec.cell] * H
    starts, size = layout(spec, sizes, itemsize, keep)
    q, ends = Sequence(), []
    q.cell, q.joined, q.reverse, q.T, q.N, q.I, q.H = CELL[spec.cell], spec.joined, spec.reverse, T, N, I, H
    q.bfloat16 = factor_bytes(spec, itemsize) == 2
    q.together, q.window = _together(sizes), _window(spec, sizes, keep)
    q.r_width = m if keep and spec.norm_hh else 0
    q.gates_width = m if keep else 0
    q.c_width = q.u_width = H if keep else 0
    for role in ROLES:
        given: Statistics | None = spec.norm(role)
        if given is None:
            continue
        norm = getattr(q, f"norm_{role}")
        norm.over, norm.eps, norm.width = OVER[given.over], given.eps, H if role == "cell" else m
        norm.unbiased = given.unbiased
        if given.over == "case":
            edges = list(itertools.accumulate(given.spans))
            ends.append((INT * len(edges))(*edges))
            norm.spans, norm.centred, norm.ends = len(edges), given.centred, ctypes.addressof(ends[-1])
            norm.width = len(edges) if keep else 0
    one = spec.joined or (spec.cell != "gru" and not spec.norm_ih and not spec.norm_hh)
    pointers = tuple((_place(name) // WORD, start * itemsize) for name, start in starts.items())
    return Plan(starts, size, one, bytes(q), pointers, tuple(ends), T)


def _place(name: str) -> int:
    """Byte of the Sequence at which the pointer to an array of the block stands: one of its own, or of a Norm."""
    if hasattr(Sequence, name):
        return getattr(Sequence, name).offset
    role, _, statistic = name.partition("_")
    return getattr(Sequence, f"norm_{role}").offset + getattr(Norm, statistic).offset
