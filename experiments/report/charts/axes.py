"""The deciding metric by batch size and by the experiment's axes."""

from collections.abc import Iterator
from dataclasses import dataclass

import altair as alt
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import values
from experiments.judging.evidence import ExperimentResult
from experiments.report.charts.layout import Figure, Layout, hover, losses, seeds, spread, varies, words
from experiments.report.tables import metric_of
from experiments.report.vega import HEIGHT, WIDTH, colour, layered, mark, shape


def by_axis(result: ExperimentResult) -> Iterator[Figure]:
    """Return the deciding metric by batch size and by every further axis that varies."""
    experiment, rows = result.experiment, result.rows
    for column in ("batch_size", *experiment.axes):
        has = rows[rows[column] != ""]
        if column == "arm" or not varies(has, column):
            continue
        layout = Layout.of(rows, experiment, without=column)
        panels = [
            axis_panel(of_series, experiment, layout, column, title)
            for title, of_series in layout.split(rows)
            if of_series.loc[of_series[column] != "", column].nunique() > 1
        ]
        what = words(column)
        caption = f"Median over {seeds(rows)}; bar: lowest to highest."
        yield Figure(f"{experiment.name}_{column}", f"By {what}", caption, {"": panels}, zoom=column == "batch_size")


def axis_panel(rows: pd.DataFrame, experiment: Experiment, layout: Layout, column: str, title: str | dict) -> dict:
    """Return a panel of the metric by one axis: a line a series; a normaliser without the axis is a level."""
    metric, unit = metric_of(rows, experiment)
    axis = _batch_axis(rows[column]) if column == "batch_size" else _named_axis(rows[column])
    records: list[dict] = []
    levels: list[dict] = []
    series = list(layout.series(rows))
    for index, (norm, name, of_series) in enumerate(series):
        for value, at in of_series.groupby(column):
            x = value * axis.step ** (index - (len(series) - 1) / 2) if axis.step else value
            record = {"name": name, "norm": norm.upper(), "at": value, "x": x}
            record |= spread(values(at, metric, {}).dropna(), losses(at))
            (levels if value == "" else records).append(record)
    y = alt.Y("median:Q", title=f"{words(metric)} ({unit})", scale=alt.Scale(zero=False))
    return layered(records, *_layers(records, levels, axis, y, layout), width=WIDTH, height=HEIGHT, title=title)


@dataclass(frozen=True)
class Axis:
    """A horizontal axis. step: factor between the series at one value, so that their bars stand side by side."""

    title: str
    x: alt.X
    joined: bool  # values are numbers, so that a line between them means something
    step: float | None = None


def _batch_axis(sizes: pd.Series) -> Axis:
    """Return the axis of batch sizes, logarithmic."""
    scale = alt.Scale(type="log", base=2, nice=False, padding=12)
    x = alt.X("x:Q", title="batch size", scale=scale, axis=alt.Axis(values=sorted(set(sizes)), format="d"))
    return Axis("batch size", x, joined=True, step=1.05)


def _named_axis(values_: pd.Series) -> Axis:
    """Return the axis of an experiment's own column, whose values are names or numbers."""
    title = words(str(values_.name))
    order = sorted((value for value in dict.fromkeys(values_) if value != ""), key=_as_number)
    x = alt.X("x:O", title=title, sort=order, axis=alt.Axis(labelAngle=0))
    return Axis(title, x, joined=any(map(_as_number, order)))


def _layers(records: list[dict], levels: list[dict], axis: Axis, y: alt.Y, layout: Layout) -> list[alt.Chart]:
    """Return bars from the lowest to the highest, lines, points and losses; a dashed level where there is no axis."""
    norms, x = layout.norms, axis.x
    tips = hover(normaliser="name:N", **{axis.title.replace(" ", "_"): "at:N"}, median="median:Q", lowest="low:Q")
    tips += hover(highest="high:Q", runs="n:Q", diverged="diverged:Q")
    dash = layout.dash([record["name"] for record in records])
    bars = mark().mark_rule(strokeWidth=1.5, opacity=0.6)
    lines = mark().mark_line(strokeWidth=1.6 if axis.joined else 0)
    points = mark().mark_point(size=55, filled=True, opacity=1)
    losses_above = mark().mark_text(dy=-10, fontSize=9)
    layers = [
        bars.encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour(norms)),
        lines.encode(x=x, y=y, color=colour(norms), detail=alt.Detail("name:N"), **dash),
        points.encode(x=x, y=y, color=colour(norms), shape=shape(norms), tooltip=tips),
        losses_above.encode(x=x, y=alt.Y("high:Q"), text=alt.Text("lost:N")),
    ]
    if levels:
        level = mark(levels).mark_rule(strokeDash=[5, 3], strokeWidth=1.6)
        layers.append(level.encode(y=alt.Y("median:Q"), color=colour(norms), tooltip=tips))
    return layers


def _as_number(text: str) -> float:
    """Return a key to sort by; names that are no numbers keep their order."""
    try:
        return float(text)
    except ValueError:
        return 0.0
