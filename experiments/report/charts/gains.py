"""Gains over no normalisation, paired over the seeds."""

import altair as alt
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import values
from experiments.judging.evidence import ExperimentResult
from experiments.judging.intervals import paired_t
from experiments.report.charts.layout import Figure, Layout, hover, losses, seeds, varies
from experiments.report.tables import interval_text, metric_of
from experiments.report.vega import WIDTH, colour, layered, mark, shape

REGIMES = {"schedule", "data_init", "order"}  # axes along which a gain is still one of the normaliser


def gains(result: ExperimentResult) -> Figure | None:
    """Return the paired differences to no normalisation, a row a normaliser; left of 0 is better."""
    experiment, rows = result.experiment, result.rows
    layout = Layout.of(rows, experiment)
    panels = [gain_panel(runs, experiment, layout, title) for title, runs in layout.split(rows) if comparable(runs)]
    if not panels or varies(rows, "batch_size"):
        return None
    caption = f"Mean of paired differences and Student's 95 % interval, {seeds(rows)}; left of 0 is better than none."
    return Figure(f"{experiment.name}_gain", "Gain over no normalisation", caption, {"": panels})


def comparable(rows: pd.DataFrame) -> bool:
    """Return whether there is an un-normalised network to compare with, and something to compare."""
    return {"none"} < set(rows["norm"])


def compares_with_none(result: ExperimentResult) -> bool:
    """Return whether an experiment compares normalisers with none by a metric of the networks."""
    return len(result.rows) > 0 and comparable(result.rows) and result.experiment.axes.keys() <= REGIMES


def gain_panel(
    rows: pd.DataFrame, experiment: Experiment, layout: Layout, title: str | dict, legend: bool = False
) -> dict:
    metric, unit = metric_of(rows, experiment)
    base = values(rows[rows["norm"] == "none"].drop_duplicates("seed"), metric, {})
    records = []
    for norm, name, runs in layout.series(rows):
        if norm == "none":
            continue
        d = (values(runs, metric, {}) - base).dropna()
        t = paired_t(d) if len(d) > 1 else None
        lost = losses(runs) + losses(rows[rows["norm"] == "none"])
        records.append(
            {
                "name": name,
                "norm": norm.upper(),
                "mean": t and t.estimate,
                "low": t and t.low,
                "high": t and t.high,
                "difference": interval_text(t) if t else "no interval",
                "n": len(d),
                "diverged": lost,
                "lost": f"{lost} diverged" if lost else "",
            }
        )
    chart = mark()
    y = alt.Y("name:N", sort=None, title=None)
    x = alt.X(
        "low:Q",
        title=f"difference to none ({unit})",
        axis=alt.Axis(tickCount=4, labelOverlap="greedy", labelFlush=False),
        scale=alt.Scale(zero=True),
    )
    tips = hover(normaliser="name:N", difference="difference:N", pairs="n:Q", diverged="diverged:Q")
    return layered(
        records,
        mark([{"x": 0}]).mark_rule(strokeWidth=1).encode(x=alt.X("x:Q")),
        chart.mark_rule(strokeWidth=2).encode(
            x=x, x2=alt.X2("high"), y=y, color=colour(layout.norms, legend), tooltip=tips
        ),
        chart.mark_point(size=70, filled=True, opacity=1).encode(
            x=alt.X("mean:Q"), y=y, color=colour(layout.norms, legend), shape=shape(layout.norms, legend), tooltip=tips
        ),
        chart.mark_text(align="right", dy=-9, fontSize=9).encode(x=alt.XValue("width"), y=y, text=alt.Text("lost:N")),
        width=WIDTH,
        height=26 * len(records),
        title=title,
    )
