"""What all charts share: a figure as a list of panels, and which columns make panels and lines."""

from collections.abc import Iterator
from dataclasses import dataclass

import altair as alt
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.words import describe
from experiments.report.names import in_words
from experiments.report.style import norms_of
from experiments.report.vega import PITCH, for_page, side_by_side, svg, titled
from experiments.runs.rows import cell_columns

UP_TO_THE_EDGE = alt.Scale(zero=False, nice=False, padding=8)  # room for the markers at both ends
DASHES = [[1, 0], [6, 3], [2, 2], [9, 3, 2, 3], [12, 4], [4, 4], [1, 3], [9, 2, 2, 2, 2, 2]]


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
        """Return SVG by file name, one for each choice."""
        return {
            "_".join(filter(None, [self.name, choice])): svg(
                titled(side_by_side(panels, self.columns), self.title, self.caption, self._width(panels))
            )
            for choice, panels in self.panels.items()
        }

    def _width(self, panels: list[dict]) -> float:
        return self.widest or PITCH * min(self.columns, len(panels))

    def specs(self) -> dict[str, list[dict]]:
        """Return Vega-Lite for the page."""
        return {choice: [self._spec(panel) for panel in panels] for choice, panels in self.panels.items()}

    def _spec(self, panel: dict) -> dict:
        names = [self.title, panel["title"]] if "title" in panel else [self.title]
        return for_page(panel, ": ".join(names), self.zoom)


def spread(values: pd.Series, lost: int) -> dict:
    """Return a cell's median and range, the number of its runs and of those that diverged."""
    some = len(values) > 0
    return {
        "median": values.median() if some else None,
        "low": values.min() if some else None,
        "high": values.max() if some else None,
        "n": len(values),
        "diverged": lost,
        "lost": f"{lost} diverged" if lost else "",
    }


def hover(**fields: str) -> list[alt.Tooltip]:
    """Return tooltips: title=field."""
    return [alt.Tooltip(field, title=title.replace("_", " ")) for title, field in fields.items()]


def varies(rows: pd.DataFrame, column: str) -> bool:
    """Return whether a column of the cells varies within a model; different models may have different settings."""
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
        """Return the layout of some rows. An axis that some runs lack, as groups of norm=bn, makes no panels."""
        varying = [c for c in cell_columns(experiment.axes) if varies(rows, c)]
        lines = [c for c in varying if c in experiment.axes and (rows[c] == "").any()]
        panels = [c for c in varying if c not in (*lines, "norm")]
        norms = norms_of(rows["norm"])
        return Layout([c for c in panels if c != without], [c for c in lines if c != without], norms)

    def split(self, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield (title in words, rows) of every panel, in the rows' order."""
        if not self.panels:
            yield in_words(", ".join(dict.fromkeys(rows["model"].astype(str)))), rows
            return
        fixed = [] if "model" in self.panels else list(dict.fromkeys(rows["model"].astype(str)))
        for key, runs in rows.groupby(self.panels, sort=False):
            yield in_words(", ".join([*fixed, describe(dict(zip(self.panels, key, strict=True)))])), runs

    def series(self, rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """Yield (norm, name, rows) of every line in a panel: LN; GN, groups 4."""
        for norm in norms_of(rows["norm"]):
            of_norm = rows[rows["norm"] == norm]
            for key, runs in of_norm.groupby(self.lines, sort=False) if self.lines else [((), of_norm)]:
                named = {c: value for c, value in zip(self.lines, key, strict=True) if value}
                yield norm, describe({"norm": norm, **named}), runs

    def dash(self, names: list[str]) -> dict:
        """Return the encoding that distinguishes the lines of one normaliser. names: of all lines in a panel."""
        if not self.lines:
            return {}
        several = [name for name in dict.fromkeys(names) if ", " in name]
        legend = alt.Legend(values=several, columns=1, labelLimit=280, symbolType="stroke", symbolStrokeWidth=1.6)
        rest = [name for name in dict.fromkeys(names) if name not in several]
        scale = alt.Scale(domain=[*several, *rest], range=[*DASHES[: len(several)], *([1, 0] for _ in rest)])
        return {"strokeDash": alt.StrokeDash("name:N", scale=scale, legend=legend)}


def seeds(rows: pd.DataFrame) -> str:
    """Return how many seeds some runs have, of several experiments the fewest and the most: 5 to 7 seeds."""
    counts = rows.groupby("experiment")["seed"].nunique()
    fewest, most = counts.min(), counts.max()
    return f"{most} seed{'s' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} seeds"


def words(metric: str) -> str:
    return metric.replace("/", " ").replace("_", " ")


def losses(rows: pd.DataFrame) -> int:
    return int((rows["status"] == "diverged").sum())
