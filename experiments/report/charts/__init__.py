"""The report's charts: one description of each for the drawing (SVG) and for the page (hover, zoom).

A figure is a list of panels of the same kind, one for each model, batch size and arm that an experiment has.
"""

from dataclasses import replace

import pandas as pd

from experiments.judging.evidence import ExperimentResult
from experiments.report.charts.axes import axis_panel, by_axis
from experiments.report.charts.curves import learning
from experiments.report.charts.exact import heat_map
from experiments.report.charts.forest import domain, forest_drawing
from experiments.report.charts.gains import GainPanel, comparable, compares_with_none, drawings, gains
from experiments.report.charts.gradients import gradients
from experiments.report.charts.layout import Figure, Layout, seeds, varies
from experiments.report.charts.rates import rates
from experiments.report.style import norms_of
from experiments.report.vega import side_by_side, svg, titled

__all__ = ["Figure", "domain", "figures", "forest_drawing", "summary"]


def figures(result: ExperimentResult) -> list[Figure]:
    """Return the figures of one experiment; none where it has no runs itself."""
    if result.rows.empty:
        return []
    drawn = [heat_map(result), gains(result), *by_axis(result), learning(result), gradients(result), rates(result)]
    return [figure for figure in drawn if figure]


def summary(results: list[ExperimentResult], background: str | None = "white") -> str:
    """Draw all experiments side by side: gains over no normalisation, and the deciding metric by batch size."""
    shown = [result for result in results if compares_with_none(result)]
    norms = norms_of(norm for result in shown for norm in result.rows["norm"])
    n = seeds(pd.concat([result.rows for result in shown])) if shown else "no run"
    gained, by_batch = [], []
    for result in shown:
        experiment, rows = result.experiment, result.rows
        batches = varies(rows, "batch_size")
        layout = replace(Layout.of(rows, experiment, without="batch_size" if batches else None), norms=norms)
        for title, runs in layout.split(rows):
            heading = {"text": title, "subtitle": experiment.name}
            if batches:
                by_batch.append(axis_panel(runs, experiment, layout, "batch_size", heading))
            elif comparable(runs):
                gained.append(GainPanel.of(runs, experiment, layout, heading))
    caption = (
        f"{n}. Gains: mean of paired differences and Student's 95 % interval; left of 0 is better than none; "
        "band: smaller than the smallest effect of interest. "
        "By batch size: median, bars from the lowest to the highest."
    )
    blocks = [side_by_side(panels) for panels in (drawings(gained, legend=True), by_batch) if panels]
    return svg(titled({"vconcat": blocks}, "Which normaliser does what for which network", caption), background)
