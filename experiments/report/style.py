"""One look for a normaliser in every figure: a marker, and a colour that is safe for the colour-blind (Okabe & Ito; two
are darker here, for a contrast of at least 3 with white)."""

from collections.abc import Iterable
from typing import Any

STYLE = {  # norm: (colour, marker as matplotlib names it)
    "none": ("#000000", "o"),
    "bn": ("#C08400", "s"),
    "ln": ("#0072B2", "D"),
    "wn": ("#009E73", "^"),
    "gn": ("#D55E00", "v"),
    "in": ("#CC79A7", "P"),
    "rms": ("#3A98CE", "X"),
}
OTHER = ("#777777", "*")  # a normaliser that is not in the table yet
FIGURE: dict[Any, Any] = {  # matplotlib's settings for the figures of inspect and benchmark
    "svg.hashsalt": "layer-normalization",  # the same numbers give the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def norms_of(norms: Iterable[str]) -> list[str]:
    """Return the normalisers among the values, in the order of STYLE; those that are not in it come last."""
    present = list(dict.fromkeys(norms))
    return sorted(present, key=lambda norm: list(STYLE).index(norm) if norm in STYLE else len(STYLE))
