"""The columns of differences and of cells: the same numbers and words in a report and in a comparison of own runs."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from experiments.judging.intervals import Interval, iqm
from experiments.judging.numbers import ends, interval_text, p_value, signed

DIGITS = 6  # significant; the last ones of a float64 differ between processors, and the tables must not


def plain(value):
    """Return a value as JSON holds it, all the way down: floats at DIGITS digits, NaN and infinity as null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return rounded(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def rounded(value):
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float | np.floating) else value


def rounded_table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a table of numbers for CSV."""
    return pd.DataFrame([{key: rounded(value) for key, value in line.items()} for line in lines])


def markdown(frame: pd.DataFrame) -> str:
    """Return a table in Markdown. Not padded: a cell may hold sentences."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Paired(Protocol):
    """A paired difference: of a claim, or of own runs that are compared."""

    @property
    def label(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def pairs(self) -> int: ...
    @property
    def interval(self) -> Interval | None: ...
    @property
    def bootstrap(self) -> Interval | None: ...
    @property
    def median(self) -> float | None: ...
    @property
    def iqm(self) -> float | None: ...
    @property
    def p(self) -> float | None: ...
    @property
    def p_holm(self) -> float | None: ...
    @property
    def diverged(self) -> int: ...


def difference_numbers(one: Paired) -> dict[str, Any]:
    """Return what was compared and its statistics, as a row of differences.csv begins."""
    t, boot = one.interval, one.bootstrap
    return {
        "contrast": one.label,
        "where": one.where,
        "n": one.pairs,
        "mean": t and t.estimate,
        "low": t and t.low,
        "high": t and t.high,
        "bootstrap_low": boot and boot.low,
        "bootstrap_high": boot and boot.high,
        **{name: getattr(one, name) for name in ("median", "iqm", "p", "p_holm")},
    }


def difference_line(one: Paired, unit: str = "", verdict: str = "", p_margin: float | None = None) -> dict[str, str]:
    """Return a paired difference in the columns of a table; one that is not judged has neither verdict nor p_margin."""
    return {
        "contrast": one.label,
        "where": one.where,
        "n": str(one.pairs),
        "mean [95 %]": interval_text(one.interval, unit),
        "verdict": verdict,
        "bootstrap": ends(one.bootstrap, unit),
        "median": signed(one.median, unit),
        "IQM": signed(one.iqm, unit),
        "p": p_value(one.p),
        "p Holm": p_value(one.p_holm),
        "p margin": p_value(p_margin),
        "diverged": str(one.diverged),
    }


def without_empty(lines: list[dict[str, str]]) -> pd.DataFrame:
    """Return a table without the columns that all of its lines leave empty."""
    frame = pd.DataFrame(lines)
    return frame.loc[:, (frame != "").any()]


def cell_numbers(metrics: pd.Series, diverged: int, seconds: float | None) -> dict[str, Any]:
    """Return the numbers of a cell, as a row of cells.csv ends: a metric over its seeds, what its runs did."""
    some = len(metrics) > 0
    return {
        "n": len(metrics),
        "median": metrics.median() if some else None,
        "min": metrics.min() if some else None,
        "max": metrics.max() if some else None,
        "iqm": iqm(metrics) if some else None,
        "diverged": diverged,
        "seconds": seconds,
    }


def cell_line(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the numbers of a cell in the columns of a table."""
    return {
        "median [range]": f"{row['median']:.3f} [{row['min']:.3f}, {row['max']:.3f}]" if row["n"] else "-",
        "IQM": f"{row['iqm']:.3f}" if row["n"] else "-",
        "n": str(row["n"]),
        "diverged": str(row["diverged"]),
        "seconds": "-" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
    }
