"""Forest plots: the contrasts of a claim against its margin."""

import altair as alt
import numpy as np

from experiments.config.experiment import Experiment
from experiments.judging.claims import Verdict
from experiments.judging.intervals import Interval
from experiments.report.style import norms_of
from experiments.report.tables import cell_of, told
from experiments.report.vega import colour, layered, mark, shape, svg, titled


def domain(verdict: Verdict, bounds: list[float]) -> tuple[float, float]:
    """The range of x of a forest plot: Student's intervals, 0 and the bounds; what lies beyond is cut off."""
    found = [
        end for o in verdict.outcomes if o.interval for end in (o.interval.low, o.interval.high, o.interval.estimate)
    ]
    inside = [0.0, *bounds, *(x for x in found if np.isfinite(x))]
    pad = 0.12 * (max(inside) - min(inside) or 1.0)
    return min(inside) - pad, max(inside) + pad


def bounds_of(verdict: Verdict, experiment: Experiment) -> list[float]:
    """What intervals are held against: the margin on both sides, or the bounds of a share."""
    claim = next(claim for claim in experiment.claims if claim.id == verdict.claim)
    if verdict.kind == "share":
        return [claim.at_most, claim.surely_below, 1.0]
    return [-verdict.margin, verdict.margin]


def forest(verdict: Verdict, experiment: Experiment, width: int = 440) -> dict:
    """A row a contrast: Student's interval, the bootstrap below it, against the margin."""
    claim = next(claim for claim in experiment.claims if claim.id == verdict.claim)
    bounds = bounds_of(verdict, experiment)
    low, high = domain(verdict, bounds)
    records, own = [], [cell.get("norm", "") for cell in cell_of(claim)]
    for row, (outcome, norm) in enumerate(zip(verdict.outcomes, own, strict=True)):
        record = {
            "row": row,
            "norm": norm.upper(),
            "name": f"{outcome.where}: {outcome.label}" if outcome.where else outcome.label,
            "numbers": f"{told(outcome.interval)}   n = {outcome.pairs}"
            if outcome.interval
            else f"no interval   n = {outcome.pairs}",
            "verdict": outcome.verdict,
        }
        record |= _cut("", outcome.interval, low, high) | _cut("boot_", outcome.second, low, high)
        records.append(record)
    rows = mark()
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingOuter=0.1))
    axis = alt.Axis(tickCount=6, grid=False)
    x = alt.X("low:Q", title=verdict.unit, axis=axis, scale=alt.Scale(domain=[low, high], nice=False, zero=False))
    norms = norms_of(own)
    band = mark([{"from": bounds[0], "to": bounds[1]}])
    layers = [band.mark_rect(color="#888", opacity=0.18).encode(x=alt.X("from:Q"), x2=alt.X2("to"))]
    if verdict.kind == "share":  # the whole region that is claimed
        region = mark([{"from": low, "to": bounds[0]}, {"from": low, "to": bounds[1]}])
        layers = [region.mark_rect(color="#888", opacity=0.14).encode(x=alt.X("from:Q"), x2=alt.X2("to"))]
    layers += [
        mark([{"x": 0}]).mark_rule(strokeWidth=1).encode(x=alt.X("x:Q")),
        rows.mark_rule(strokeWidth=2.5, yOffset=12).encode(x=x, x2=alt.X2("high"), y=y, color=colour(norms, False)),
        rows.mark_rule(strokeWidth=1, strokeDash=[3, 2], yOffset=19).encode(
            x=alt.X("boot_low:Q"), x2=alt.X2("boot_high"), y=y
        ),
        rows.mark_point(size=80, filled=True, opacity=1, yOffset=12).encode(
            x=alt.X("at:Q"), y=y, color=colour(norms, False), shape=shape(norms, False)
        ),
        rows.mark_text(text="◂", yOffset=12).encode(x=alt.X("off_low:Q"), y=y),
        rows.mark_text(text="▸", yOffset=12).encode(x=alt.X("off_high:Q"), y=y),
        rows.mark_text(align="left", dy=-16).encode(x=alt.XValue(0), y=y, text=alt.Text("name:N")),
        rows.mark_text(align="left", dy=-3).encode(x=alt.XValue(0), y=y, text=alt.Text("numbers:N")),
        rows.mark_text(align="right", dy=-3, fontWeight="bold").encode(
            x=alt.XValue(width), y=y, text=alt.Text("verdict:N")
        ),
    ]
    return layered(records, *layers, width=width, height=58 * len(records))


def _cut(prefix: str, interval: Interval | None, low: float, high: float) -> dict:
    """An interval's ends inside [low, high], and where it was cut off."""
    if interval is None:
        return dict.fromkeys([f"{prefix}low", f"{prefix}high", *([] if prefix else ["at", "off_low", "off_high"])])
    ends_ = {
        f"{prefix}low": float(np.clip(interval.low, low, high)),
        f"{prefix}high": float(np.clip(interval.high, low, high)),
    }
    if prefix:
        return ends_
    off = {"off_low": low if interval.low < low else None, "off_high": high if interval.high > high else None}
    return {**ends_, "at": interval.estimate, **off}


def forest_drawing(verdict: Verdict, experiment: Experiment, background: str | None = "white") -> str:
    """The forest plot as a file; without a background it is for the page, which says the rest in words."""
    chart = forest(verdict, experiment)
    if background:
        chart = titled(chart, verdict.statement, forest_caption(verdict), 80)
    return svg(chart, background)


def forest_caption(verdict: Verdict) -> str:
    if verdict.kind == "share":
        return "Line: Fieller's 95 % interval. Darker: at most what is claimed; lighter: where its upper end must stay."
    kind = (
        "95 % interval by MOVER" if verdict.kind == "share_contrast" else "Student's 95 % interval; dashed: bootstrap"
    )
    return f"Line: {kind}. Band: smaller than {verdict.margin:g}, the smallest effect of interest."
