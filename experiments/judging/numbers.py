"""Differences, intervals and p values as text."""

import math

from experiments.judging.intervals import Interval


def decimals(unit: str) -> int:
    """Return how many decimals a difference in this unit is written with."""
    return 1 if unit == "percentage points" else 3


def signed(number: float | None, unit: str = "") -> str:
    """Return a difference as text: +0.044, in percentage points +14.1; 0.000 without a sign, "" where there is none."""
    if number is None or math.isnan(number):
        return ""
    if math.isinf(number):
        return "+∞" if number > 0 else "-∞"
    text = f"{number:+.{decimals(unit)}f}"
    return text if float(text) else text[1:]  # 0 has no sign


def interval_text(interval: Interval | None, unit: str = "") -> str:
    """Return mean [low, high]: +0.044 [+0.033, +0.055]."""
    return f"{signed(interval.estimate, unit)} {ends(interval, unit)}" if interval else ""


def ends(interval: Interval | None, unit: str = "") -> str:
    """Return [low, high]."""
    return f"[{signed(interval.low, unit)}, {signed(interval.high, unit)}]" if interval else ""


def p_value(p: float | None) -> str:
    """Return a p value as text: 0.021, <0.001."""
    if p is None:
        return ""
    return f"{p:.2g}" if p >= 0.001 else "<0.001"
