"""Exact statements as a heat map."""

import altair as alt

from experiments.judging.claims import describe, values
from experiments.judging.evidence import Part
from experiments.report.charts.layout import Figure, hover, seeds, varies
from experiments.report.tables import each_cell
from experiments.report.vega import layered, mark
from experiments.runs.rows import cell_columns


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
