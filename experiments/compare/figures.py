"""The forest plot of a comparison, and the curves of its metric."""

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from experiments.compare.comparison import CellOfRuns, Comparison, Difference
from experiments.judging.numbers import interval_text, signed
from experiments.judging.words import describe
from experiments.report.charts.forest import cut
from experiments.report.charts.layout import DASHES, UP_TO_THE_EDGE, words
from experiments.report.style import OTHER, STYLE
from experiments.report.vega import HEIGHT, PITCH, WIDTH, layered, look, mark, side_by_side, svg, titled

ROW, FOREST = 58, 480  # pixels: height of a difference, width of the plot
COLOURS = (*(STYLE[norm][0] for norm in ("ln", "gn", "wn", "in", "bn", "rms")), OTHER[0])


# --- Differences ------------------------------------------------------------------------------------------------------


def forest(comparison: Comparison, background: str | None = "white") -> str:
    """Draw every difference with its interval, and below how it depends on further fields."""
    tables = {
        f"{words(comparison.metric)} less that of {comparison.baseline}": comparison.differences,
        "difference of two such differences": comparison.interactions,
    }
    panels = [_forest_panel(title, rows) for title, rows in tables.items() if rows]
    chart = {"vconcat": panels}
    if background:
        chart = titled(chart, f"Compared with {comparison.baseline}: {words(comparison.metric)}", CAPTION, FOREST)
    return svg(chart, background)


CAPTION = (
    "Mean of paired differences over seeds and Student's 95 % interval; dots: its differences, one a seed. Left of 0 "
    "is lower."
)


def _forest_panel(title: str, rows: list[Difference]) -> dict:
    low, high = _domain(rows)
    records = []
    for index, one in enumerate(rows):
        numbers = interval_text(one.interval) if one.interval else f"{signed(one.mean)} no interval".strip()
        record = {
            "row": index,
            "name": f"{one.where}: {one.label}" if one.where else one.label,
            "numbers": f"{numbers}   n = {one.pairs}" + (f", {one.diverged} diverged" if one.diverged else ""),
            "colour": look(one.norm)[0],
        }
        records.append(record | cut(one.interval, low, high) | {"at": one.mean})
    seeds = [{"row": index, "seed": value} for index, one in enumerate(rows) for value in one.by_seed.values()]
    strip = mark()
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingOuter=0.1, domain=list(range(len(rows)))))
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("low:Q", title=title, axis=alt.Axis(tickCount=6, grid=False), scale=scale)
    hue = alt.Color("colour:N", scale=None, legend=None)
    layers = [
        strip.mark_tick(orient="vertical", size=20, thickness=1, color="currentColor", yOffset=17).encode(
            x=alt.XDatum(0), y=y
        ),
        strip.mark_rule(strokeWidth=2.5, yOffset=12).encode(x=x, x2=alt.X2("high"), y=y, color=hue),
        mark(seeds)
        .mark_point(size=14, filled=True, opacity=0.6, color="currentColor", yOffset=21)
        .encode(x=alt.X("seed:Q"), y=y),
        strip.mark_point(size=80, filled=True, opacity=1, yOffset=12).encode(x=alt.X("at:Q"), y=y, color=hue),
        strip.mark_text(text="◂", yOffset=12).encode(x=alt.X("off_low:Q"), y=y),
        strip.mark_text(text="▸", yOffset=12).encode(x=alt.X("off_high:Q"), y=y),
        strip.mark_text(align="left", dy=-16).encode(x=alt.XValue(0), y=y, text=alt.Text("name:N")),
        strip.mark_text(align="left", dy=-3).encode(x=alt.XValue(0), y=y, text=alt.Text("numbers:N")),
    ]
    return layered(records, *layers, width=FOREST, height=ROW * len(rows))


def _domain(rows: list[Difference]) -> tuple[float, float]:
    """Return the range of x: every seed, the intervals and 0. An interval more than twice as wide is cut off."""
    seeds = [0.0, *(value for one in rows for value in one.by_seed.values())]
    width = max(seeds) - min(seeds) or 1.0
    ends = [end for one in rows if one.interval for end in (one.interval.low, one.interval.high)]
    inside = [*seeds, *np.clip([end for end in ends if np.isfinite(end)], min(seeds) - width, max(seeds) + width)]
    pad = 0.06 * (max(inside) - min(inside) or 1.0)
    return float(min(inside) - pad), float(max(inside) + pad)


# --- Curves -----------------------------------------------------------------------------------------------------------


def curve_metric(comparison: Comparison) -> str | None:
    """Return what is drawn by step: the metric on validation data, or the validation loss; None without either."""
    own = f"val/{comparison.metric.partition('/')[2]}"
    there = {name for run in comparison.runs for row in run.curve for name in row}
    return next((name for name in (own, "val/loss") if name in there), None)


def curves(comparison: Comparison, metric: str, background: str | None = "white") -> str:
    """Draw the metric by step: a panel for each value of the further fields, a line for each of the baseline's."""
    looks = _looks(comparison)
    panels = [_curve_panel(title, cells, looks, metric) for title, cells in panels_of(comparison).items()]
    chart = side_by_side(panels)
    if background:
        caption = "Median over seeds; band: lowest to highest. A diverged run counts up to where it diverged."
        chart = titled(chart, f"{words(metric)} by step", caption, PITCH * min(len(panels), 3))
    return svg(chart, background)


@dataclass(frozen=True)
class Looks:
    """The lines of all panels: colour and dash by name."""

    colours: dict[str, str]
    dashes: dict[str, list[int]]

    def encoding(self) -> dict:
        names = list(self.colours)
        legend = alt.Legend(columns=2, labelLimit=300, symbolType="stroke", symbolStrokeWidth=2)
        scale = alt.Scale(domain=names, range=[self.colours[name] for name in names])
        dash = alt.Scale(domain=names, range=[self.dashes[name] for name in names])
        return {
            "color": alt.Color("name:N", scale=scale, legend=legend),
            "strokeDash": alt.StrokeDash("name:N", scale=dash, legend=legend),
        }


def _line(cell: CellOfRuns, comparison: Comparison) -> str:
    """Return the name of a cell's line: its values of the baseline's fields."""
    return describe({column: cell.named.get(column, "") for column in comparison.against})


def _looks(comparison: Comparison) -> Looks:
    """Return a look for every line: a normaliser has its own colour where it alone distinguishes the lines."""
    lines: dict[str, str] = {}
    for cell in comparison.cells:
        lines.setdefault(_line(cell, comparison), next(iter(cell.runs.values())).fields["norm.name"])
    by_norm = comparison.against == ["norm"]
    colours = {
        name: look(norm)[0] if by_norm else COLOURS[index % len(COLOURS)]
        for index, (name, norm) in enumerate(lines.items())
    }
    return Looks(colours, {name: DASHES[index % len(DASHES)] for index, name in enumerate(lines)})


def panels_of(comparison: Comparison) -> dict[str, list[tuple[str, CellOfRuns]]]:
    """Return the lines of each panel by its title. A cell that lacks a field which others have gets its own panel."""
    by_panel: dict[str, list[tuple[str, CellOfRuns]]] = {}
    for cell in comparison.cells:
        rest = {column: value for column, value in cell.named.items() if column not in comparison.against}
        by_panel.setdefault(describe(rest), []).append((_line(cell, comparison), cell))
    return by_panel


def _curve_panel(title: str, cells: list[tuple[str, CellOfRuns]], looks: Looks, metric: str) -> dict:
    records = []
    for name, cell in cells:
        points = [(row["step"], row[metric]) for run in cell.runs.values() for row in run.curve if metric in row]
        frame = pd.DataFrame(points, columns=["step", "value"], dtype=float)
        for step, values in frame[np.isfinite(frame["value"])].groupby("step")["value"]:
            spread = {"median": values.median(), "low": values.min(), "high": values.max()}
            records.append({"name": name, "step": int(step), **spread})
    shape = mark()
    encoding = looks.encoding()
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5), scale=UP_TO_THE_EDGE)
    y = alt.Y("median:Q", title=words(metric), scale=alt.Scale(zero=False))
    layers = [
        shape.mark_area(opacity=0.13, clip=True).encode(
            x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=encoding["color"], detail=alt.Detail("name:N")
        ),
        shape.mark_line(strokeWidth=1.8, clip=True).encode(x=x, y=y, **encoding),
    ]
    return layered(records, *layers, width=WIDTH, height=HEIGHT, title=title or "all runs")
