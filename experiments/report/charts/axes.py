"""The deciding metric by batch size and by an experiment's own axes."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import values
from experiments.judging.evidence import ExperimentResult
from experiments.report.charts.layout import Figure, Layout, hover, losses, seeds, spread, varies, words
from experiments.report.tables import metric_of
from experiments.report.vega import HEIGHT, WIDTH, colour, layered, mark, shape


def by_axis(result: ExperimentResult) -> Iterator[Figure]:
    """The deciding metric by batch size and by every further axis that varies."""
    experiment, rows = result.experiment, result.rows
    for column in ("batch_size", *experiment.axes):
        has = rows[rows[column] != ""]
        if column == "arm" or not varies(has, column):
            continue
        layout = Layout.of(rows, experiment, without=column)
        panels = [
            axis_panel(own, experiment, layout, column, title)
            for title, own in layout.split(rows)
            if own.loc[own[column] != "", column].nunique() > 1
        ]
        what = words(column.replace("_size", " size"))
        caption = f"Median over {seeds(rows)}; bar: lowest to highest."
        yield Figure(f"{experiment.name}_{column}", f"By {what}", caption, {"": panels}, zoom=column == "batch_size")


def axis_panel(rows: pd.DataFrame, experiment: Experiment, layout: Layout, column: str, title: str | dict) -> dict:
    """x is numbers on a logarithmic axis for the batch size, else names; a normaliser without the axis is a level."""
    metric, unit = metric_of(rows, experiment)
    records: list[dict] = []
    levels: list[dict] = []
    names = list(layout.series(rows))
    for place, (norm, name, own) in enumerate(names):
        for value, at in own.groupby(column):
            metrics = values(at, metric, {}).dropna()
            record = {
                "name": name,
                "norm": norm.upper(),
                "at": value,
                # Side by side, so that the bars can be told apart.
                "x": value * 1.05 ** (place - (len(names) - 1) / 2) if column == "batch_size" else value,
                **spread(metrics, losses(at)),
            }
            (levels if value == "" else records).append(record)
    what = words(column.replace("_size", " size"))
    y = alt.Y("median:Q", title=f"{words(metric)} ({unit})", scale=alt.Scale(zero=False))
    if column == "batch_size":
        sizes = sorted(set(rows[column]))
        x = alt.X(
            "x:Q",
            title=what,
            scale=alt.Scale(type="log", base=2, nice=False, padding=12),
            axis=alt.Axis(values=sizes, format="d"),
        )
    else:
        order = sorted((value for value in dict.fromkeys(rows[column]) if value != ""), key=_as_number)
        x = alt.X("x:O", title=what, sort=order, axis=alt.Axis(labelAngle=0))
    norms = layout.norms
    tips = hover(normaliser="name:N", **{what.replace(" ", "_"): "at:N"}, median="median:Q", lowest="low:Q")
    tips += hover(highest="high:Q", runs="n:Q", diverged="diverged:Q")
    chart, level = mark(), mark(levels)
    numbers = column == "batch_size" or any(map(_as_number, order))
    dash = layout.dash([record["name"] for record in records])
    layers = [
        chart.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
            x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour(norms)
        ),
        chart.mark_line(strokeWidth=1.6 if numbers else 0).encode(
            x=x, y=y, color=colour(norms), detail=alt.Detail("name:N"), **dash
        ),
        chart.mark_point(size=55, filled=True, opacity=1).encode(
            x=x, y=y, color=colour(norms), shape=shape(norms), tooltip=tips
        ),
        chart.mark_text(dy=-10, fontSize=9).encode(x=x, y=alt.Y("high:Q"), text=alt.Text("lost:N")),
    ]
    if levels:
        layers.append(
            level.mark_rule(strokeDash=[5, 3], strokeWidth=1.6).encode(
                y=alt.Y("median:Q"), color=colour(norms), tooltip=tips
            )
        )
    return layered(records, *layers, width=WIDTH, height=HEIGHT, title=title)


def _as_number(text: str) -> float:
    """For sorting; names that are no numbers keep their order."""
    try:
        return float(text)
    except ValueError:
        return 0.0
