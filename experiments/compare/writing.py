"""The files of a comparison, and what the command prints."""

import sys
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from experiments.compare.comparison import CellOfRuns, Comparison, Difference
from experiments.compare.figures import CAPTION, curve_metric, curves, forest, panels_of
from experiments.judging.numbers import signed
from experiments.report.charts.layout import words
from experiments.report.columns import (
    cell_line,
    cell_numbers,
    difference_line,
    difference_numbers,
    markdown,
    rounded,
    rounded_table,
    without_empty,
)
from experiments.report.vega import inline

HERE = Path(__file__).parent
MOST_FOLLOWING = 4  # fields that go with the cells, in the table of a page; cells.csv has all
HOW_TO_READ = (
    "Runs of one seed make a pair. Student's t gives interval and p, Holm's correction is over the rows of a table. "
    "The bootstrap-t beside it shows what the assumption of a normal distribution costs, and needs four pairs. No rule "
    "was set before these runs: a difference that was looked for among many is a reason for fresh seeds, not a result."
)


def write(comparison: Comparison, folder: Path) -> None:
    """Write every file into an empty folder."""
    by_step = curve_metric(comparison)
    drawn = {"forest": forest(comparison)} | ({"curves": curves(comparison, by_step)} if by_step else {})
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    rows_of(comparison).to_csv(folder / "differences.csv", index=False)
    cells_of(comparison).to_csv(folder / "cells.csv", index=False)
    runs_of(comparison).to_csv(folder / "runs.csv", index=False)
    (folder / "compare.md").write_text(text(comparison, drawn), encoding="utf-8")
    (folder / "compare.html").write_text(page(comparison, by_step), encoding="utf-8")


# --- Tables -----------------------------------------------------------------------------------------------------------


def difference_table(differences: list[Difference]) -> pd.DataFrame:
    """Return differences as text, without the columns that all leave empty."""
    lines = []
    for one in differences:
        alone = {} if one.interval else {"mean [95 %]": f"{signed(one.mean)} no interval".strip()}
        lines.append(difference_line(one) | alone)
    return without_empty(lines)


def tables_of(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Return the tables by heading."""
    tables = {f"Against {comparison.baseline}": difference_table(comparison.differences)}
    if comparison.interactions:
        tables["How that depends on a further field"] = difference_table(comparison.interactions)
    return tables | {"Cells": cell_table(comparison)}


def cell_table(comparison: Comparison) -> pd.DataFrame:
    """Return the cells as text."""
    lines = []
    following = list(comparison.following.values())
    few = following if len(following) <= MOST_FOLLOWING else []
    for row in cells_of(comparison).to_dict("records"):
        lines.append({column: row[column] for column in (*comparison.columns, *few)} | cell_line(row))
    return pd.DataFrame(lines)


def cells_of(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each cell, for cells.csv."""
    return rounded_table([_cell_row(cell, comparison) for cell in comparison.cells])


def _cell_row(cell: CellOfRuns, comparison: Comparison) -> dict:
    runs = list(cell.runs.values())
    found = pd.Series([run.value(comparison.metric) for run in runs], dtype=float).dropna()
    seconds = pd.Series([run.row.get("seconds") for run in runs], dtype=float).dropna()
    return {
        **{column: cell.named.get(column, "") for column in comparison.columns},
        **{column: runs[0].fields.get(field, "") for field, column in comparison.following.items()},
        "metric": comparison.metric,
        **cell_numbers(found, sum(run.diverged for run in runs), seconds.median() if len(seconds) else None),
    }


def rows_of(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each difference, for differences.csv: every number, the differences by seed, the runs."""
    lines = []
    for kind, differences in (("difference", comparison.differences), ("interaction", comparison.interactions)):
        for one in differences:
            lines.append(
                {
                    "kind": kind,
                    "metric": comparison.metric,
                    **difference_numbers(one),
                    "mean": one.mean,  # of a single pair too
                    "diverged": one.diverged,
                    "by_seed": " ".join(f"{seed}:{rounded(value)}" for seed, value in one.by_seed.items()),
                    "run_ids": " ".join(run.id for run in one.runs),
                }
            )
    return rounded_table(lines)


def runs_of(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each run, for runs.csv: the fields of its cell, its results, where it lies."""
    return pd.DataFrame(
        [
            {**{column: cell.named.get(column, "") for column in comparison.columns}, **run.row, "path": str(run.path)}
            for cell in comparison.cells
            for run in cell.runs.values()
        ]
    )


# --- Text -------------------------------------------------------------------------------------------------------------


def heading(comparison: Comparison) -> str:
    metric = words(comparison.metric)
    return f"{metric[:1].upper()}{metric[1:]}, compared with {comparison.baseline}"


def summary(comparison: Comparison) -> str:
    """Return how many runs and cells are compared, in a sentence."""
    seeds = {seed for cell in comparison.cells for seed in cell.runs}
    count = f"{len(comparison.runs)} runs in {len(comparison.cells)} cells ({', '.join(comparison.columns)})"
    return f"{count}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}."


def text(comparison: Comparison, drawn: dict[str, str]) -> str:
    """Return compare.md."""
    sections = [f"# {heading(comparison)}", summary(comparison), HOW_TO_READ]
    sections += ["\n".join(f"- {line}" for line in comparison.notices)] if comparison.notices else []
    for title, frame in tables_of(comparison).items():
        sections += [f"## {title}", markdown(frame)]
    sections += [f"![{name} of {heading(comparison)}]({name}.svg)" for name in drawn]
    return "\n\n".join(sections) + "\n"


def page(comparison: Comparison, by_step: str | None) -> str:
    """Return compare.html, one file that needs no network."""
    report = HERE.parent / "report"
    templates = Environment(
        loader=FileSystemLoader([HERE, report]), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return templates.get_template("compare.html.j2").render(
        title=heading(comparison),
        summary=summary(comparison),
        how_to_read=HOW_TO_READ,
        notices=comparison.notices,
        tables=tables_of(comparison),
        forest=Markup(inline(forest(comparison, background=None), "forest", summary(comparison))),
        caption=CAPTION,
        curves=Markup(inline(curves(comparison, by_step, background=None), "curves", f"{words(by_step)} by step"))
        if by_step
        else None,
        by_step=words(by_step or ""),
        width=22 * min(3, len(panels_of(comparison))),
    )


def say(comparison: Comparison) -> None:
    """Print the tables, and the notices."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    print(summary(comparison))
    for line in comparison.notices:
        print(f"note: {line}")
    for title, frame in tables_of(comparison).items():
        shown = Table(title=f"{title}, {words(comparison.metric)}", title_justify="left")
        for column in frame.columns:
            shown.add_column(column.replace("[", r"\["), overflow="fold")
        for line in frame.itertuples(index=False):
            shown.add_row(*(str(value).replace("[", r"\[") for value in line))
        console.print(shown)
