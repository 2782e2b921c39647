"""Statements without chance, as a heat map."""

import altair as alt
import pandas as pd

from experiments.judging.cells import values
from experiments.judging.claims import kinds_of
from experiments.judging.claims.base import Bound, Kind, matching
from experiments.judging.evidence import ExperimentResult
from experiments.judging.words import column_name, describe
from experiments.report.charts.layout import Figure, hover, seeds, varies
from experiments.report.tables import each_cell
from experiments.report.vega import layered, mark
from experiments.runs.rows import cell_columns

OPACITY = 0.35  # of a cell behind its number
GROUPS = {"the same": "#0072B2", "differs": "#C08400", "not as claimed": "#D55E00", "no claim": "#888888"}


def heat_map(result: ExperimentResult) -> Figure | None:
    """Return the value of each cell and column that is held against a bound; None where no claim has one."""
    experiment, rows = result.experiment, result.rows
    kinds = list(kinds_of(experiment).values())
    bounded = dict.fromkeys(column for kind in kinds for column in kind.bounded_columns())
    columns = [column for column in bounded if column in rows]
    if not columns:
        return None
    varying = [column for column in cell_columns(experiment.axes) if varies(rows, column)] or ["norm"]
    records = []
    for cell, runs in each_cell(rows, experiment):
        name = describe({column: cell[column] for column in varying if cell[column] != ""})
        records += [
            record for column in columns if (record := _record(runs, name, column, _bound(kinds, cell, column)))
        ]
    caption = f"Relative change: the largest of {seeds(rows)} where none is claimed, the smallest where one is."
    width = 64 * len(columns)
    chart = _chart(records, width)
    return Figure(f"{experiment.name}_exact", "What changes", caption, {"": [chart]}, widest=200 + width)


def _bound(kinds: list[Kind], cell: dict, column: str) -> Bound | None:
    """Return what the first claim about this cell holds the column against."""
    bounds = (
        kind.bounded_columns()[column]
        for kind in kinds
        if column in kind.bounded_columns() and any(matching(subject, [cell]) for subject in kind.subjects())
    )
    return next(bounds, None)


def _record(runs: pd.DataFrame, cell: str, column: str, bound: Bound | None) -> dict | None:
    """Return a field of the map; None where no run has a value."""
    measured = values(runs, column, {}).dropna()
    if not len(measured):
        return None
    must_differ = bound is not None and bound.at_least
    value = measured.min() if must_differ else measured.max()
    if bound is None:
        claimed, group = "nothing", "no claim"
    else:
        claimed = f"at {'least' if bound.at_least else 'most'} {bound.limit:g}"
        group = "not as claimed" if not bound.holds(value) else "differs" if must_differ else "the same"
    return {
        "cell": cell,
        "column": column_name(column) or column,
        "value": value,
        "text": f"{value:.1g}",
        "claimed": claimed,
        "n": len(measured),
        "group": group,
    }


def _chart(records: list[dict], width: int) -> dict:
    tips = hover(cell="cell:N", change="column:N", value="value:Q", claimed="claimed:N", runs="n:Q")
    above = alt.Axis(labelAngle=-35, orient="top", labelLimit=200, grid=False)
    x = alt.X("column:N", sort=None, title=None, axis=above)
    y = alt.Y("cell:N", sort=None, title=None, axis=alt.Axis(grid=False))
    scale = alt.Scale(domain=list(GROUPS), range=list(GROUPS.values()))
    fill = alt.Color("group:N", scale=scale, legend=alt.Legend(symbolOpacity=OPACITY))
    chart = mark()
    return layered(
        records,
        chart.mark_rect(opacity=OPACITY, stroke="#888", strokeWidth=0.5).encode(x=x, y=y, color=fill, tooltip=tips),
        chart.mark_text(fontSize=10.5).encode(x=x, y=y, text=alt.Text("text:N"), tooltip=tips),
        width=width,
        height=26 * len({record["cell"] for record in records}),
    )
