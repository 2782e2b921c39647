"""The metric that chose the learning rates, by the rate."""

import altair as alt
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.evidence import ExperimentResult
from experiments.judging.tuning import choose, tuning_metric
from experiments.report.charts.layout import Figure, Layout, hover, losses, seeds, spread, words
from experiments.report.vega import HEIGHT, WIDTH, colour, layered, mark, shape
from experiments.runs.rows import cell_columns


def rates(result: ExperimentResult) -> Figure | None:
    """Return the deciding metric on the validation split by learning rate; the chosen rate is ringed."""
    experiment, tuned = result.experiment, result.tuned
    metric, columns = tuning_metric(experiment), cell_columns(experiment.axes)
    if not {metric, *columns} <= set(tuned):
        return None
    chosen = choose(tuned, columns, metric)["chosen"]
    layout = Layout.of(tuned, experiment)
    panels = [rate_panel(runs, experiment, layout, chosen, metric, title) for title, runs in layout.split(tuned)]
    caption = f"Validation split, {seeds(tuned)} for tuning alone: median, bar from lowest to highest; ring: chosen."
    return Figure(
        f"{experiment.name}_learning_rate", "Sensitivity to the learning rate", caption, {"": panels}, zoom=True
    )


def rate_panel(rows, experiment: Experiment, layout: Layout, chosen: pd.Series, metric: str, title: str) -> dict:
    records, columns = [], cell_columns(experiment.axes)
    for norm, name, runs in layout.series(rows):
        best = chosen[tuple(runs.iloc[0][columns])]
        for lr, at in runs.groupby("lr"):
            metrics = at.loc[at["status"] == "done", metric].dropna()
            records.append(
                {
                    "name": name,
                    "norm": norm.upper(),
                    "lr": lr,
                    **spread(metrics, losses(at)),
                    "chosen": "chosen" if lr == best else "",
                }
            )
    norms = layout.norms
    x = alt.X(
        "lr:Q",
        title="learning rate",
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(values=sorted(set(rows["lr"])), format="~g"),
    )
    unit = f" ({experiment.unit})" if metric.partition("/")[2] == experiment.metric.partition("/")[2] else ""
    y = alt.Y("median:Q", title=f"{words(metric)}{unit}", scale=alt.Scale(zero=False, padding=8))
    tips = hover(normaliser="name:N", learning_rate="lr:Q", median="median:Q", lowest="low:Q", highest="high:Q")
    tips += hover(runs="n:Q", diverged="diverged:Q", choice="chosen:N")
    chart, dash = mark(), layout.dash([record["name"] for record in records])
    return layered(
        records,
        chart.mark_rule(strokeWidth=1.2, opacity=0.5).encode(
            x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour(norms)
        ),
        chart.mark_line(strokeWidth=1.4).encode(x=x, y=y, color=colour(norms), detail=alt.Detail("name:N"), **dash),
        chart.mark_point(size=45, filled=True, opacity=1).encode(
            x=x, y=y, color=colour(norms), shape=shape(norms), tooltip=tips
        ),
        chart.transform_filter("datum.chosen === 'chosen'")
        .mark_point(size=190, filled=False, strokeWidth=1.5, opacity=1, shape="circle")
        .encode(x=x, y=y, color=colour(norms)),
        chart.mark_text(dy=-10, fontSize=9).encode(x=x, y=alt.Y("high:Q"), text=alt.Text("lost:N")),
        width=WIDTH,
        height=HEIGHT,
        title=title,
    )
