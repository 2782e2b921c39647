"""Gains over no normalisation, paired over the seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import altair as alt
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import CellReader, values
from experiments.judging.claims import kinds_of
from experiments.judging.claims.difference import Difference
from experiments.judging.evidence import ExperimentResult
from experiments.judging.intervals import Interval, paired_t
from experiments.judging.numbers import interval_text
from experiments.report.charts.layout import Figure, Layout, hover, losses, seeds, varies
from experiments.report.tables import metric_of
from experiments.report.vega import WIDTH, colour, layered, mark, shape
from experiments.runs.rows import CURVE_COLUMNS, cell_columns

REGIMES = {"schedule", "data_init", "order"}  # axes along which a gain is still one of the normaliser


def gain(reader: CellReader, of_norm: pd.DataFrame, of_none: pd.DataFrame) -> tuple[pd.Series, Interval | None, str]:
    """Return a normaliser's paired differences to none, their interval, and why they are unfit for one ("" if fit).

    of_norm, of_none: the runs of either cell. Where a pair lacks its result there is no interval.
    """
    columns = cell_columns(reader.experiment.axes)
    cells = [runs.iloc[0][columns].to_dict() for runs in (of_norm, of_none)]
    base = values(of_none.drop_duplicates("seed"), reader.metric, {})
    d = (values(of_norm, reader.metric, {}) - base).reindex(reader.seeds).dropna()
    if missing := len(reader.seeds) - len(d):
        return d, None, f"{missing} of {len(reader.seeds)} pairs lack a result"
    return d, paired_t(d), reader.compared("", "", len(d), cells).unfit


def reader_of(rows: pd.DataFrame, experiment: Experiment) -> tuple[CellReader, str]:
    """Return a reader of the metric that decides, and its unit."""
    metric, unit = metric_of(rows, experiment)
    return CellReader(rows, pd.DataFrame(columns=CURVE_COLUMNS), replace(experiment, metric=metric), metric), unit


@dataclass(frozen=True)
class GainPanel:
    """The gains of one network in one regime: a record for each normaliser, and the smallest effect of interest."""

    records: list[dict]
    margin: float
    unit: str
    norms: list[str]
    title: str | dict

    @staticmethod
    def of(rows: pd.DataFrame, experiment: Experiment, layout: Layout, title: str | dict) -> "GainPanel":
        reader, unit = reader_of(rows, experiment)
        none = rows[rows["norm"] == "none"]
        records = []
        for norm, name, runs in layout.series(rows):
            if norm == "none" or none.empty:
                continue
            d, t, unfit = gain(reader, runs, none)
            lost = losses(runs) + losses(none)
            ends = {"mean": t and t.estimate, "low": t and t.low, "high": t and t.high}
            numbers = interval_text(t, unit) + (", unfit for a verdict" if unfit else "") if t else "no interval"
            shown = {"difference": numbers, "n": len(d), "diverged": lost}
            lost_text = f"{lost} diverged" if lost else ""
            records.append({"name": name, "norm": norm.upper(), **ends, **shown, "lost": lost_text})
        return GainPanel(records, margin_of(experiment, reader.metric), unit, layout.norms, title)

    def ends(self) -> list[float]:
        """Return the numbers that an axis has to hold."""
        shown = [record[end] for record in self.records for end in ("low", "high") if record[end] is not None]
        return [end for end in shown if math.isfinite(end)] + [0.0, -self.margin, self.margin]

    def drawing(self, domain: tuple[float, float], legend: bool) -> dict:
        chart = mark()
        y = alt.Y("name:N", sort=None, title=None)
        x = alt.X(
            "low:Q",
            title=f"difference to none ({self.unit})",
            axis=alt.Axis(tickCount=4, labelOverlap="greedy", labelFlush=False),
            scale=alt.Scale(domain=list(domain), nice=True),
        )
        tips = hover(normaliser="name:N", difference="difference:N", pairs="n:Q", diverged="diverged:Q")
        looks = {"color": colour(self.norms, legend), "tooltip": tips}
        return layered(
            self.records,
            mark([{"low": -self.margin, "high": self.margin}])
            .mark_rect(opacity=0.15, color="#888")
            .encode(x=alt.X("low:Q"), x2=alt.X2("high")),
            mark([{"x": 0}]).mark_rule(strokeWidth=1).encode(x=alt.X("x:Q")),
            chart.mark_rule(strokeWidth=2, clip=True).encode(x=x, x2=alt.X2("high"), y=y, **looks),
            chart.mark_point(size=70, filled=True, opacity=1).encode(
                x=alt.X("mean:Q"), y=y, shape=shape(self.norms, legend), **looks
            ),
            chart.mark_text(align="right", dy=-9, fontSize=9).encode(
                x=alt.XValue("width"), y=y, text=alt.Text("lost:N")
            ),
            width=WIDTH,
            height=26 * len(self.records),
            title=self.title,
        )


def drawings(panels: Sequence[GainPanel], legend: bool = False) -> list[dict]:
    """Return the panels as Vega-Lite. Those of one unit have one axis, so that their gains compare."""
    by_unit: dict[str, list[float]] = {}
    for panel in panels:
        by_unit.setdefault(panel.unit, []).extend(panel.ends())
    return [panel.drawing((min(by_unit[panel.unit]), max(by_unit[panel.unit])), legend) for panel in panels]


def margin_of(experiment: Experiment, metric: str) -> float:
    """Return the smallest effect of interest of the experiment's claims about this metric; 0 if there is none."""
    kinds = kinds_of(experiment).values()
    return max((kind.claim.margin for kind in kinds if type(kind) is Difference and kind.metric == metric), default=0.0)


def gains(result: ExperimentResult) -> Figure | None:
    """Return the paired differences to no normalisation, a row a normaliser; left of 0 is better."""
    experiment, rows = result.experiment, result.rows
    layout = Layout.of(rows, experiment)
    panels = [GainPanel.of(runs, experiment, layout, title) for title, runs in layout.split(rows) if comparable(runs)]
    if not panels or varies(rows, "batch_size"):
        return None
    caption = f"Mean of paired differences and Student's 95 % interval, {seeds(rows)}; left of 0 is better than none."
    if any(panel.margin for panel in panels):
        caption += " Band: smaller than the smallest effect of interest."
    return Figure(f"{experiment.name}_gain", "Gain over no normalisation", caption, {"": drawings(panels)})


def comparable(rows: pd.DataFrame) -> bool:
    """Return whether there is an un-normalised network to compare with, and something to compare."""
    return {"none"} < set(rows["norm"])


def compares_with_none(result: ExperimentResult) -> bool:
    """Return whether an experiment compares normalisers with none by a metric of the networks."""
    return len(result.rows) > 0 and comparable(result.rows) and result.experiment.axes.keys() <= REGIMES
