"""Gradients through time: how much of the last step's loss reaches the states before it."""

import altair as alt
import pandas as pd

from experiments.judging.evidence import ExperimentResult
from experiments.report.charts.curves import lines
from experiments.report.charts.layout import UP_TO_THE_EDGE, Figure, Layout, hover, seeds


def gradients(result: ExperimentResult) -> Figure | None:
    """Return the norm of d loss_T / d h_t by T - t: for each network a panel at the start and one after training."""
    measured = result.rows[result.rows["run_id"].isin(result.gradients["run_id"])]
    if measured.empty:
        return None
    layout = Layout.of(measured, result.experiment)
    networks = list(layout.split(measured))
    panels = [
        gradient_panel(runs, at, layout, f"{title}, {moment}")
        for moment, at in result.gradients.groupby("moment", sort=False)
        for title, runs in networks
    ]
    caption = (
        f"Norm of the gradient of the last step's loss with respect to the hidden state some steps before, mean over "
        f"cases of the validation split. Median over {seeds(measured)}; band: lowest to highest."
    )
    columns = len(networks) if len(networks) in (2, 3) else 2
    name = f"{result.experiment.name}_gradients"
    return Figure(name, "Gradients through time", caption, {"": panels}, columns)


def gradient_panel(rows: pd.DataFrame, gradients: pd.DataFrame, layout: Layout, title: str) -> dict:
    records = []
    for norm, name, runs in layout.series(rows):
        # A gradient of 0 has no place on a logarithmic axis.
        reached = gradients[gradients["run_id"].isin(runs["run_id"]) & (gradients["norm"] > 0)]
        for lag, at in reached.groupby("lag"):
            course = at["norm"]
            spread = {"median": course.median(), "low": course.min(), "high": course.max(), "n": len(course)}
            records.append({"name": name, "norm": norm.upper(), "lag": int(lag), **spread})
    x = alt.X("lag:Q", title="steps before the last one", axis=alt.Axis(tickCount=5), scale=UP_TO_THE_EDGE)
    y = alt.Y("median:Q", title="norm of the gradient", scale=alt.Scale(type="log"), axis=alt.Axis(format="~e"))
    tips = hover(normaliser="name:N", steps_before="lag:Q", median="median:Q", lowest="low:Q", highest="high:Q")
    return lines(records, layout, x, y, [*tips, *hover(runs="n:Q")], title)
