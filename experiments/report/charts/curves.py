"""Learning curves by step and by examples. Seconds are no axis: runs share their machine with others."""

import altair as alt
import pandas as pd

from experiments.judging.claims import kinds_of
from experiments.judging.evidence import ExperimentResult
from experiments.report.charts.layout import UP_TO_THE_EDGE, Figure, Layout, hover, seeds
from experiments.report.vega import HEIGHT, WIDTH, colour, layered, mark, shape

AXES = {"step": "step", "examples": "examples seen"}
FEWEST = 4  # evaluations of a run, below which there is no curve


def learning(result: ExperimentResult) -> Figure | None:
    """Return the validation loss by step and examples; None where the runs were evaluated too seldom."""
    experiment, rows = result.experiment, result.rows
    about_training = any(kind.has_interval for kind in kinds_of(experiment).values())
    if not about_training or result.curves.empty or result.curves["val/loss"].isna().all():
        return None
    if result.curves.groupby("run_id").size().max() < FEWEST:
        return None
    layout = Layout.of(rows, experiment)
    panels = {
        axis: [curve_panel(runs, result.curves, layout, title, axis) for title, runs in layout.split(rows)]
        for axis in AXES
    }
    caption = f"Median over {seeds(rows)}; band: lowest to highest. A diverged run counts up to where it diverged."
    return Figure(f"{experiment.name}_learning", "Learning curves", caption, panels, zoom=True)


def curve_panel(rows: pd.DataFrame, curves: pd.DataFrame, layout: Layout, title: str, axis: str) -> dict:
    records = []
    for norm, name, runs in layout.series(rows):
        for step, at in curves[curves["run_id"].isin(runs["run_id"])].groupby("step"):
            loss = at["val/loss"]
            records.append(
                {
                    "name": name,
                    "norm": norm.upper(),
                    "step": int(step),
                    "examples": at["examples"].median(),
                    "median": loss.median(),
                    "low": loss.min(),
                    "high": loss.max(),
                    "n": len(loss),
                }
            )
    x = alt.X(f"{axis}:Q", title=AXES[axis], axis=alt.Axis(tickCount=5), scale=UP_TO_THE_EDGE)
    y = alt.Y("median:Q", title="validation loss (nats)", scale=alt.Scale(zero=False))
    tips = hover(normaliser="name:N", validation_loss="median:Q", lowest="low:Q", highest="high:Q", runs="n:Q")
    tips += hover(step="step:Q", examples="examples:Q")
    return lines(records, layout, x, y, tips, title)


def lines(records: list[dict], layout: Layout, x: alt.X, y: alt.Y, tips: list, title: str) -> dict:
    """Return a panel: the median as a line with markers, the range from the lowest to the highest as a band."""
    norms = layout.norms
    chart = mark()
    dash = layout.dash([record["name"] for record in records])
    return layered(
        records,
        chart.mark_area(opacity=0.13, clip=True).encode(
            x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour(norms), detail=alt.Detail("name:N")
        ),
        chart.mark_line(strokeWidth=1.6, clip=True).encode(
            x=x, y=y, color=colour(norms), detail=alt.Detail("name:N"), **dash
        ),
        chart.mark_point(size=45, filled=True, opacity=1, clip=True).encode(
            x=x, y=y, color=colour(norms), shape=shape(norms), tooltip=tips
        ),
        width=WIDTH,
        height=HEIGHT,
        title=title,
    )
