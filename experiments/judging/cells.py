"""Cells of an experiment: read from the rows, and named in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.judging.verdict import Compared


@dataclass(frozen=True)
class CellReader:
    """The rows of an experiment, as the kinds of claims read them."""

    rows: pd.DataFrame
    metric: str
    seeds: list[int]

    def values(self, cell: Mapping, metric: str | None = None) -> pd.Series:
        """Return the metric by seed; NaN for a run that diverged or is missing."""
        return values(self.rows, metric or self.metric, cell).reindex(self.seeds)

    def columns(self, cell: Mapping, columns: Sequence[str]) -> pd.DataFrame:
        """Return several columns of one cell, a row for each seed that has all of them."""
        return pd.DataFrame({column: self.values(cell, column) for column in columns}).dropna()

    def gains(self, base: Mapping, cells: Mapping[str, Mapping], metric: str | None = None) -> pd.DataFrame:
        """Return metric(base) - metric(cell) by the cells' names, a row for each seed that has all of them."""
        start = self.values(base, metric)
        return pd.DataFrame({name: start - self.values(cell, metric) for name, cell in cells.items()}).dropna()

    def compared(self, label: str, where: str, pairs: int, cells: Sequence[Mapping]) -> Compared:
        """Return a contrast with the ids of all runs of its cells, and how many of them diverged."""
        runs = pd.concat([self.rows.loc[_mask(self.rows, cell)] for cell in cells])
        diverged = int((runs["status"] == "diverged").sum())
        return Compared(label, where, pairs, diverged, list(runs["run_id"]))


def _mask(rows: pd.DataFrame, cell: Mapping) -> np.ndarray:
    """Return which rows have the cell's columns.

    Compared as text, since an axis is text in a row and may be a number in a rule.
    """
    mask = np.ones(len(rows), bool)
    for column, value in cell.items():
        mask &= (rows[column].astype(str) == str(value)).to_numpy() if column in rows else False
    return mask


def values(rows: pd.DataFrame, metric: str, cell: Mapping) -> pd.Series:
    """Return the metric of a cell's runs, indexed by seed; NaN where a run diverged.

    Raises ValueError for two rows of one seed.
    """
    chosen = rows.loc[_mask(rows, cell)]
    if chosen["seed"].duplicated().any():
        raise ValueError(f"two rows for one seed in {dict(cell)}")
    column = chosen[metric] if metric in chosen else pd.Series(np.nan, chosen.index)
    return column.where(chosen["status"] == "done").set_axis(chosen["seed"])
