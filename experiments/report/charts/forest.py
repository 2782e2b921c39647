"""Forest plots: the contrasts of a claim against its margin."""

import altair as alt
import numpy as np

from experiments.judging.claims.base import Kind
from experiments.judging.intervals import Interval
from experiments.judging.numbers import interval_text
from experiments.judging.verdict import Verdict
from experiments.report.style import norms_of
from experiments.report.vega import colour, layered, mark, shape, svg, titled

FOREST = 440  # pixels


def domain(verdict: Verdict, bounds: list[float]) -> tuple[float, float]:
    """Return the range of x of a forest plot: the intervals, 0 and the bounds. What lies beyond is cut off."""
    intervals = [outcome.interval for outcome in verdict.outcomes if outcome.interval]
    ends = [end for interval in intervals for end in (interval.low, interval.high, interval.estimate)]
    ends += [d for outcome in verdict.outcomes for d in outcome.differences or ()]
    inside = [0.0, *bounds, *(x for x in ends if np.isfinite(x))]
    pad = 0.12 * (max(inside) - min(inside) or 1.0)
    return min(inside) - pad, max(inside) + pad


def forest(verdict: Verdict, kind: Kind) -> dict:
    """Return the forest plot: a row a contrast, its interval with the differences of the seeds, against the margin."""
    low, high = domain(verdict, kind.bounds())
    compared = [cell.get("norm", "") for cell in kind.subjects()]
    records, pairs = [], []
    for row, (outcome, norm) in enumerate(zip(verdict.outcomes, compared, strict=True)):
        record = {
            "row": row,
            "norm": norm.upper(),
            "name": f"{outcome.where}: {outcome.label}" if outcome.where else outcome.label,
            "numbers": f"{interval_text(outcome.interval, verdict.unit)}   n = {outcome.pairs}"
            if outcome.interval
            else f"no interval   n = {outcome.pairs}",
            "verdict": outcome.verdict,
        }
        records.append(record | cut(outcome.interval, low, high))
        pairs += [{"pair_row": row, "pair": d} for d in outcome.differences or ()]
    rows = mark()
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingOuter=0.1))
    axis = alt.Axis(tickCount=6, grid=False)
    x = alt.X("low:Q", title=kind.axis_title(), axis=axis, scale=alt.Scale(domain=[low, high], nice=False, zero=False))
    norms = norms_of(compared)
    bands = kind.bands(low)
    opacity = 0.18 if len(bands) == 1 else 0.14  # where bands overlap, they add up
    shaded = mark([{"from": left, "to": right} for left, right in bands])
    layers = [shaded.mark_rect(color="#888", opacity=opacity).encode(x=alt.X("from:Q"), x2=alt.X2("to"))]
    layers += [
        rows.mark_tick(orient="vertical", size=20, thickness=1, color="currentColor", yOffset=17).encode(
            x=alt.XDatum(0), y=y
        ),
        rows.mark_rule(strokeWidth=2.5, yOffset=12).encode(x=x, x2=alt.X2("high"), y=y, color=colour(norms, False)),
        mark(pairs)
        .mark_point(size=14, filled=True, opacity=0.6, color="currentColor", yOffset=21)
        .encode(x=alt.X("pair:Q"), y=alt.Y("pair_row:O", axis=None)),
        rows.mark_point(size=80, filled=True, opacity=1, yOffset=12).encode(
            x=alt.X("at:Q"), y=y, color=colour(norms, False), shape=shape(norms, False)
        ),
        rows.mark_text(text="◂", yOffset=12).encode(x=alt.X("off_low:Q"), y=y),
        rows.mark_text(text="▸", yOffset=12).encode(x=alt.X("off_high:Q"), y=y),
        rows.mark_text(align="left", dy=-16).encode(x=alt.XValue(0), y=y, text=alt.Text("name:N")),
        rows.mark_text(align="left", dy=-3).encode(x=alt.XValue(0), y=y, text=alt.Text("numbers:N")),
        rows.mark_text(align="right", dy=-3, fontWeight="bold").encode(
            x=alt.XValue(FOREST), y=y, text=alt.Text("verdict:N")
        ),
    ]
    return layered(records, *layers, width=FOREST, height=58 * len(records))


def cut(interval: Interval | None, low: float, high: float) -> dict:
    """Return an interval's ends inside [low, high], and where it was cut off."""
    if interval is None:
        return dict.fromkeys(["low", "high", "at", "off_low", "off_high"])
    return {
        "low": float(np.clip(interval.low, low, high)),
        "high": float(np.clip(interval.high, low, high)),
        "at": interval.estimate,
        "off_low": low if interval.low < low else None,
        "off_high": high if interval.high > high else None,
    }


def forest_drawing(verdict: Verdict, kind: Kind, background: str | None = "white") -> str:
    """Return the forest plot as SVG. Without a background it is for the page, which has title and caption as text."""
    chart = forest(verdict, kind)
    if background:
        chart = titled(chart, verdict.statement, kind.caption(), FOREST)
    return svg(chart, background)
