"""Cells of an experiment: read from the rows and the curves, and checked for networks that have not learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.intervals import paired_t
from experiments.judging.verdict import Compared
from experiments.judging.words import describe, text


@dataclass(frozen=True)
class CellReader:
    """The runs of an experiment, as the kinds of claims read them.

    metric: the column that is judged. scale: factor on it, where units of several metrics are to be compared.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    experiment: Experiment
    metric: str
    scale: float = 1.0

    @property
    def seeds(self) -> list[int]:
        return self.experiment.final_seeds

    def of_metric(self, metric: str, scale: float) -> "CellReader":
        return replace(self, metric=metric, scale=scale)

    def values(self, cell: Mapping, metric: str | None = None) -> pd.Series:
        """Return the metric by seed; NaN for a run that diverged or is missing."""
        return self.scale * values(self.rows, metric or self.metric, cell).reindex(self.seeds)

    def columns(self, cell: Mapping, columns: Sequence[str]) -> pd.DataFrame:
        """Return several columns of one cell, a row for each seed that has all of them."""
        return pd.DataFrame({column: self.values(cell, column) for column in columns}).dropna()

    def gains(self, base: Mapping, cells: Mapping[str, Mapping]) -> pd.DataFrame:
        """Return metric(base) - metric(cell) by the cells' names, a row for each seed that has all of them."""
        start = self.values(base)
        return pd.DataFrame({name: start - self.values(cell) for name, cell in cells.items()}).dropna()

    def runs(self, cell: Mapping) -> pd.DataFrame:
        """Return the rows of a cell."""
        return self.rows.loc[mask(self.rows, cell)]

    def curves_of(self, cell: Mapping) -> dict[int, pd.DataFrame]:
        """Return the evaluations of a cell's finished runs by seed, in the order of the steps."""
        runs = self.runs(cell)
        finished = runs[runs["status"] == "done"]
        by_run = dict(list(self.curves[self.curves["run_id"].isin(finished["run_id"])].groupby("run_id")))
        return {
            row.seed: by_run[row.run_id].sort_values("step") for row in finished.itertuples() if row.run_id in by_run
        }

    def compared(
        self, label: str, where: str, pairs: int, cells: Sequence[Mapping], judged: Sequence[Mapping] | None = None
    ) -> Compared:
        """Return a contrast with the ids of all runs of its cells, and how many of them diverged.

        judged: the cells that must have learnt for the contrast to be fit for a verdict; by default all of them.
        """
        runs = pd.concat([self.runs(cell) for cell in cells])
        diverged = int((runs["status"] == "diverged").sum())
        unfit = self._below_floor(cells) or self._at_chance(cells if judged is None else judged)
        return Compared(label, where, pairs, diverged, list(runs["run_id"]), unfit)

    def _at_chance(self, cells: Sequence[Mapping]) -> str:
        """Return which cell has learnt nothing, as far as its interval shows; "" if none."""
        chance = self.experiment.chance
        if chance is None:
            return ""
        for cell in cells:
            found = values(self.rows, self.experiment.metric, cell).dropna()
            if len(found) > 1 and (interval := paired_t(found)).high >= chance:
                at = f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}] {self.experiment.unit}"
                return f"{describe(cell)} has not learnt: {at}, chance is {chance:g}"
        return ""

    def _below_floor(self, cells: Sequence[Mapping]) -> str:
        """Return which network of the cells' kind is too poor for a verdict, or lacks results; "" if none."""
        for floor in self.experiment.floors:
            kind = {column: value for column, value in floor.cell.items() if column != "norm"}
            if not any(
                all(text(cell.get(column, value)) == text(value) for column, value in kind.items()) for cell in cells
            ):
                continue
            metric = floor.metric or self.experiment.metric
            reached = self.values(floor.cell, metric) / self.scale
            if lost := reached.isna().sum():  # a mean over the surviving runs would flatter it
                return f"{describe(floor.cell)}, which has a floor, lacks {lost} of {len(reached)} results ({metric})"
            if (mean := reached.mean()) > floor.at_most:
                return f"{describe(floor.cell)} stands at {mean:.3g}, above its floor of {floor.at_most:g} ({metric})"
        return ""


def mask(rows: pd.DataFrame, cell: Mapping) -> np.ndarray:
    """Return which rows have the cell's columns."""
    chosen = np.ones(len(rows), bool)
    for column, value in cell.items():
        chosen &= rows[column].to_numpy().astype(str) == text(value) if column in rows else False
    return chosen


def values(rows: pd.DataFrame, metric: str, cell: Mapping) -> pd.Series:
    """Return the metric of a cell's runs, indexed by seed; NaN where a run diverged, or its metric is not finite.

    Raises ValueError for two rows of one seed.
    """
    chosen = rows.loc[mask(rows, cell)]
    if chosen["seed"].duplicated().any():
        raise ValueError(f"two rows for one seed in {dict(cell)}")
    column = chosen[metric] if metric in chosen else pd.Series(np.nan, chosen.index)
    return column.where((chosen["status"] == "done") & np.isfinite(pd.to_numeric(column, errors="coerce"))).set_axis(
        chosen["seed"]
    )
