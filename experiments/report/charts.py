"""The report's charts: one description of each for the drawing (SVG) and for the page (hover, zoom).

A figure is a list of panels of the same kind, one for each model, batch size and arm that an experiment has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import altair as alt
import numpy as np
import pandas as pd

from experiments.claims import Verdict, describe, values
from experiments.config import Experiment
from experiments.report.evidence import Part
from experiments.report.tables import cell_of, each_cell, metric_of, told
from experiments.report.vega import HEIGHT, WIDTH, colour, for_page, layered, mark, shape, side_by_side, svg, titled
from experiments.statistics import Interval, paired_t
from experiments.style import norms_of
from experiments.table import cell_columns
from experiments.tune import choose, tuning_metric

UP_TO_THE_EDGE = alt.Scale(zero=False, nice=False, padding=8)  # room for the markers at both ends
DASHES = [[1, 0], [6, 3], [2, 2], [9, 3, 2, 3], [12, 4], [4, 4], [1, 3], [9, 2, 2, 2, 2, 2]]
AXES = {"step": "step", "examples": "examples seen", "seconds": "seconds of training"}


@dataclass(frozen=True)
class Figure:
    """name: of its file; panels: by what can be chosen on the page ("" where there is no choice)."""

    name: str
    title: str
    caption: str
    panels: dict[str, list[dict]]
    columns: int = 3
    zoom: bool = False
    widest: int | None = None  # pixels of a panel on the page; None: as wide as its box

    def drawings(self) -> dict[str, str]:
        """SVG by file name, one for each choice."""
        return {
            "_".join(filter(None, [self.name, choice])): svg(
                titled(side_by_side(panels, self.columns), self.title, self.caption)
            )
            for choice, panels in self.panels.items()
        }

    def specs(self) -> dict[str, list[dict]]:
        """Vega-Lite for the page."""
        return {choice: [for_page(panel, self.zoom) for panel in panels] for choice, panels in self.panels.items()}


# --- what all charts share --------------------------------------------------------------------------------------------


def spread(found: pd.Series, lost: int) -> dict:
    """A cell's median and range, the number of its runs and of those that diverged."""
    some = len(found) > 0
    return {
        "median": found.median() if some else None,
        "low": found.min() if some else None,
        "high": found.max() if some else None,
        "n": len(found),
        "diverged": lost,
        "lost": f"{lost} diverged" if lost else "",
    }


def hover(**fields: str) -> list[alt.Tooltip]:
    """Tooltips: title=field."""
    return [alt.Tooltip(field, title=title.replace("_", " ")) for title, field in fields.items()]


def varies(rows: pd.DataFrame, column: str) -> bool:
    """Whether a column of the cells has several values; for one model, since models may have settings of their own."""
    if column == "model":
        return rows["model"].nunique() > 1
    return column in rows and (rows.groupby("model")[column].nunique() > 1).any()


@dataclass(frozen=True)
class Layout:
    """Which columns of an experiment's cells make panels, and which tell the lines of one normaliser apart."""

    panels: list[str]
    lines: list[str]
    norms: list[str]

    @staticmethod
    def of(rows: pd.DataFrame, experiment: Experiment, without: str | None = None) -> "Layout":
        """An axis that some runs do not have (groups, of a batch normalisation) cannot make panels."""
        varying = [c for c in cell_columns(experiment.axes) if varies(rows, c)]
        lines = [c for c in varying if c in experiment.axes and (rows[c] == "").any()]
        panels = [c for c in varying if c not in (*lines, "norm")]
        norms = norms_of(rows["norm"])
        return Layout([c for c in panels if c != without], [c for c in lines if c != without], norms)

    def split(self, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """(title, rows) of every panel, in the rows' order."""
        if not self.panels:
            yield ", ".join(dict.fromkeys(rows["model"].astype(str))), rows
            return
        fixed = [] if "model" in self.panels else list(dict.fromkeys(rows["model"].astype(str)))
        for key, part in rows.groupby(self.panels, sort=False):
            yield ", ".join([*fixed, describe(dict(zip(self.panels, key, strict=True)))]), part

    def series(self, rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """(norm, name, rows) of every line in a panel: LN; GN, groups 4."""
        for norm in norms_of(rows["norm"]):
            own = rows[rows["norm"] == norm]
            for key, part in own.groupby(self.lines, sort=False) if self.lines else [((), own)]:
                named = {c: value for c, value in zip(self.lines, key, strict=True) if value}
                yield norm, describe({"norm": norm, **named}), part

    def dash(self, names: list[str]) -> dict:
        """The encoding that tells the lines of one normaliser apart; names: of all lines in a panel."""
        if not self.lines:
            return {}
        several = [name for name in dict.fromkeys(names) if ", " in name]
        legend = alt.Legend(values=several, columns=1, labelLimit=280, symbolType="stroke", symbolStrokeWidth=1.6)
        rest = [name for name in dict.fromkeys(names) if name not in several]
        scale = alt.Scale(domain=[*several, *rest], range=[*DASHES[: len(several)], *([1, 0] for _ in rest)])
        return {"strokeDash": alt.StrokeDash("name:N", scale=scale, legend=legend)}


def seeds(rows: pd.DataFrame) -> str:
    n = rows["seed"].nunique()
    return f"{n} seed{'s' if n > 1 else ''}"


def words(metric: str) -> str:
    return metric.replace("/", " ").replace("_", " ")


def losses(rows: pd.DataFrame) -> int:
    return int((rows["status"] == "diverged").sum())


# --- forest plots -----------------------------------------------------------------------------------------------------


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


# --- gains ------------------------------------------------------------------------------------------------------------


def gains(part: Part) -> Figure | None:
    """Paired difference to no normalisation, a row a normaliser; left of 0 is better."""
    experiment, rows = part.experiment, part.rows
    layout = Layout.of(rows, experiment)
    panels = [gain_panel(own, experiment, layout, title) for title, own in layout.split(rows) if comparable(own)]
    if not panels or varies(rows, "batch_size"):
        return None
    caption = f"Mean of paired differences and Student's 95 % interval, {seeds(rows)}; left of 0 is better than none."
    return Figure(f"{experiment.name}_gain", "Gain over no normalisation", caption, {"": panels})


def comparable(rows: pd.DataFrame) -> bool:
    """Whether there is an un-normalised network to compare with, and something to compare."""
    return {"none"} < set(rows["norm"])


def gain_panel(
    rows: pd.DataFrame, experiment: Experiment, layout: Layout, title: str | dict, legend: bool = False
) -> dict:
    metric, unit = metric_of(rows, experiment)
    base = values(rows[rows["norm"] == "none"].drop_duplicates("seed"), metric, {})
    records = []
    for norm, name, own in layout.series(rows):
        if norm == "none":
            continue
        d = (values(own, metric, {}) - base).dropna()
        t = paired_t(d) if len(d) > 1 else None
        lost = losses(own) + losses(rows[rows["norm"] == "none"])
        records.append(
            {
                "name": name,
                "norm": norm.upper(),
                "mean": t and t.estimate,
                "low": t and t.low,
                "high": t and t.high,
                "told": told(t) if t else "no interval",
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
        axis=alt.Axis(tickCount=5),
        scale=alt.Scale(zero=True),
    )
    tips = hover(normaliser="name:N", difference="told:N", pairs="n:Q", diverged="diverged:Q")
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


# --- learning curves --------------------------------------------------------------------------------------------------


def learning(part: Part) -> Figure | None:
    """Validation loss by step, examples and seconds."""
    experiment, rows = part.experiment, part.rows
    exact = all(claim.kind == "exact" for claim in experiment.claims)
    if exact or part.curves.empty or part.curves["val/loss"].isna().all():
        return None
    layout = Layout.of(rows, experiment)
    panels = {
        axis: [curve_panel(own, part.curves, layout, title, axis) for title, own in layout.split(rows)] for axis in AXES
    }
    caption = f"Median over {seeds(rows)}; band: lowest to highest. A diverged run counts up to where it diverged."
    return Figure(f"{experiment.name}_learning", "Learning curves", caption, panels, zoom=True)


def curve_panel(rows: pd.DataFrame, curves: pd.DataFrame, layout: Layout, title: str, axis: str) -> dict:
    records = []
    for norm, name, own in layout.series(rows):
        for step, at in curves[curves["run_id"].isin(own["run_id"])].groupby("step"):
            loss = at["val/loss"]
            records.append(
                {
                    "name": name,
                    "norm": norm.upper(),
                    "step": int(step),
                    "examples": at["examples"].median(),
                    "seconds": at["seconds"].median(),
                    "median": loss.median(),
                    "low": loss.min(),
                    "high": loss.max(),
                    "n": len(loss),
                }
            )
    x = alt.X(f"{axis}:Q", title=AXES[axis], axis=alt.Axis(tickCount=5), scale=UP_TO_THE_EDGE)
    y = alt.Y("median:Q", title="validation loss (nats)", scale=alt.Scale(zero=False))
    tips = hover(normaliser="name:N", validation_loss="median:Q", lowest="low:Q", highest="high:Q", runs="n:Q")
    tips += hover(step="step:Q", examples="examples:Q", seconds="seconds:Q")
    return lines(records, layout, x, y, tips, title)


def lines(records: list[dict], layout: Layout, x: alt.X, y: alt.Y, tips: list, title: str) -> dict:
    """Median as a line with markers, the range from the lowest to the highest as a band."""
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


# --- the deciding metric by batch size and by an experiment's own axes ------------------------------------------------


def by_axis(part: Part) -> Iterator[Figure]:
    """The deciding metric by batch size and by every further axis that varies."""
    experiment, rows = part.experiment, part.rows
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
    records, levels = [], []
    names = list(layout.series(rows))
    for place, (norm, name, own) in enumerate(names):
        for value, at in own.groupby(column):
            found = values(at, metric, {}).dropna()
            record = {
                "name": name,
                "norm": norm.upper(),
                "at": value,
                # Side by side, so that the bars can be told apart.
                "x": value * 1.05 ** (place - (len(names) - 1) / 2) if column == "batch_size" else value,
                **spread(found, losses(at)),
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


# --- learning rates ---------------------------------------------------------------------------------------------------


def rates(part: Part) -> Figure | None:
    """The deciding metric on the validation split by learning rate, from the tuning runs; the chosen rate ringed."""
    experiment, tuned = part.experiment, part.tuned
    metric, columns = tuning_metric(experiment), cell_columns(experiment.axes)
    if not {metric, *columns} <= set(tuned):
        return None
    chosen = choose(tuned, columns, metric)["chosen"]
    layout = Layout.of(tuned, experiment)
    panels = [rate_panel(own, experiment, layout, chosen, metric, title) for title, own in layout.split(tuned)]
    caption = f"Validation split, {seeds(tuned)} for tuning alone: median, bar from lowest to highest; ring: chosen."
    return Figure(
        f"{experiment.name}_learning_rate", "Sensitivity to the learning rate", caption, {"": panels}, zoom=True
    )


def rate_panel(rows, experiment: Experiment, layout: Layout, chosen: pd.Series, metric: str, title: str) -> dict:
    records, columns = [], cell_columns(experiment.axes)
    for norm, name, own in layout.series(rows):
        best = chosen[tuple(own.iloc[0][columns])]
        for lr, at in own.groupby("lr"):
            found = at.loc[at["status"] == "done", metric].dropna()
            records.append(
                {
                    "name": name,
                    "norm": norm.upper(),
                    "lr": lr,
                    **spread(found, losses(at)),
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
    y = alt.Y("median:Q", title=words(metric), scale=alt.Scale(zero=False))
    tips = hover(normaliser="name:N", learning_rate="lr:Q", median="median:Q", lowest="low:Q", highest="high:Q")
    tips += hover(runs="n:Q", diverged="diverged:Q", choice="chosen:N")
    chart = mark()
    return layered(
        records,
        chart.mark_rule(strokeWidth=1.2, opacity=0.5).encode(
            x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour(norms)
        ),
        chart.mark_line(strokeWidth=1.4).encode(x=x, y=y, color=colour(norms), detail=alt.Detail("name:N")),
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


# --- exact statements -------------------------------------------------------------------------------------------------


def heat_map(part: Part) -> Figure | None:
    """What exact claims are about: the value of each cell and column, and whether it lies within its bound."""
    experiment, rows = part.experiment, part.rows
    exact = [claim for claim in experiment.claims if claim.kind == "exact"]
    columns = list(
        dict.fromkeys(column for claim in exact for column in (*claim.holds, *claim.breaks) if column in rows)
    )
    if not columns:
        return None
    varying = [c for c in cell_columns(experiment.axes) if varies(rows, c)] or ["norm"]
    records = []
    for cell, own in each_cell(rows, experiment):
        for column in columns:
            claim = next((claim for claim in exact if _about(claim, cell, column)), None)
            breaks = claim is not None and column in claim.breaks
            found = values(own, column, {}).dropna()
            if not len(found):
                continue
            value = found.min() if breaks else found.max()
            bound = (claim.at_least if breaks else claim.at_most) if claim else None
            told_ = "" if claim is None else f"at least {bound:g}" if breaks else f"at most {bound:g}"
            met = claim is None or (value >= bound if breaks else value <= bound)
            group = (
                "no claim" if claim is None else "not as claimed" if not met else "differs" if breaks else "the same"
            )
            records.append(
                {
                    "cell": describe({c: cell[c] for c in varying if cell[c] != ""}),
                    "column": column.partition("/")[2].replace("_", " ") or column,
                    "value": value,
                    "text": f"{value:.0e}" if value else "0",
                    "claimed": told_ or "nothing",
                    "n": len(found),
                    "group": group,
                }
            )
    groups = {"the same": "#0072B2", "differs": "#E69F00", "not as claimed": "#D55E00", "no claim": "#888888"}
    tips = hover(cell="cell:N", change="column:N", value="value:Q", claimed="claimed:N", runs="n:Q")
    x = alt.X(
        "column:N", sort=None, title=None, axis=alt.Axis(labelAngle=-35, orient="top", labelLimit=200, grid=False)
    )
    y = alt.Y("cell:N", sort=None, title=None, axis=alt.Axis(grid=False))
    chart = mark()
    fill = alt.Color("group:N", scale=alt.Scale(domain=list(groups), range=list(groups.values())), legend=alt.Legend())
    whole = layered(
        records,
        chart.mark_rect(opacity=0.35, stroke="#888", strokeWidth=0.5).encode(x=x, y=y, color=fill, tooltip=tips),
        chart.mark_text(fontSize=10.5).encode(x=x, y=y, text=alt.Text("text:N"), tooltip=tips),
        width=64 * len(columns),
        height=26 * len({record["cell"] for record in records}),
    )
    caption = f"Relative change: the largest of {seeds(rows)} where none is claimed, the smallest where one is."
    return Figure(f"{experiment.name}_exact", "What changes", caption, {"": [whole]}, widest=200 + 64 * len(columns))


def _about(claim, cell: dict, column: str) -> bool:
    """Whether an exact claim says something of a column in a cell."""
    return column in (*claim.holds, *claim.breaks) and any(
        all(str(cell.get(c)) == str(value) for c, value in {**over, **claim.a}.items()) for over in claim.over
    )


# --- of an experiment, of a profile -----------------------------------------------------------------------------------


def figures(part: Part) -> list[Figure]:
    """The figures of one experiment; none where it has no runs of its own."""
    if part.rows.empty:
        return []
    found = [heat_map(part)]
    found += [gains(part), *by_axis(part), learning(part), rates(part)]
    return [figure for figure in found if figure]


def summary(parts: list[Part], background: str | None = "white") -> str:
    """All experiments side by side: gains over no normalisation, and the deciding metric by batch size."""
    shown = [part for part in parts if summarised(part)]
    norms = norms_of(norm for part in shown for norm in part.rows["norm"])
    n = seeds(pd.concat([part.rows for part in shown])) if shown else "no run"
    gained, by_batch = [], []
    for part in shown:
        experiment, rows = part.experiment, part.rows
        batches = varies(rows, "batch_size")
        layout = replace(Layout.of(rows, experiment, without="batch_size" if batches else None), norms=norms)
        for title, own in layout.split(rows):
            heading = {"text": title, "subtitle": experiment.name}
            if batches:
                by_batch.append(axis_panel(own, experiment, layout, "batch_size", heading))
            elif comparable(own):
                gained.append(gain_panel(own, experiment, layout, heading, legend=True))
    caption = (
        f"{n}. Gains: mean of paired differences and Student's 95 % interval; left of 0 is better than none. "
        "By batch size: median, bars from the lowest to the highest."
    )
    blocks = [side_by_side(panels) for panels in (gained, by_batch) if panels]
    return svg(titled({"vconcat": blocks}, "Which normaliser does what for which network", caption), background)


def summarised(part: Part) -> bool:
    """Whether an experiment compares normalisers with none, by a metric of the networks (not by an exact statement)."""
    return len(part.rows) > 0 and comparable(part.rows) and not part.experiment.axes.keys() - {"arm"}
