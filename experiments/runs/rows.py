"""Run folders as tables: one row per run, and the learning curves."""

import sys
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

import pandas as pd

from experiments.config.errors import ConfigError, first_line
from experiments.runs.folder import RunFolder
from experiments.runs.records import DamagedFileError

ROW_COLUMNS = ["model", "norm", "batch_size", "run_id", "experiment", "seed", "status", "lr"]  # of a table without rows
CURVE_COLUMNS = ["run_id", "step", "examples", "seconds", "train/loss", "val/loss"]
GRADIENT_COLUMNS = ["run_id", "moment", "lag", "norm"]


def cell_columns(axes: Iterable[str]) -> list[str]:
    """Return the columns for which one learning rate is tuned."""
    return ["model", "norm", "batch_size", *axes]


def collect(run_ids: Iterable[str], runs_dir: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return (rows, curves, missing) of exactly these runs, in their order.

    rows: the summary of each run. curves: losses by step, examples and seconds, wherever the validation loss was taken.
    missing: run ids without a result, so that a dropped run shows; a line on stderr names what is damaged of it. Runs
    of the same experiment with other settings are left out.
    """
    rows, curves, missing = [], [], []
    for folder in (RunFolder(runs_dir, run_id) for run_id in run_ids):
        try:
            if not folder.finished:
                raise DamagedFileError(folder.damage)
            curves += _curve(folder)
            rows.append(folder.summary)
        except DamagedFileError as error:
            missing.append(folder.run_id)
            if damage := str(error):
                remedy = "start it again" if folder.damage else "delete the folder and start it again"
                print(f"{folder.path} is left out: {damage}; {remedy}", file=sys.stderr)
    columns = None if rows else ROW_COLUMNS
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(curves, columns=CURVE_COLUMNS), missing


def _curve(folder: RunFolder) -> list[dict]:
    evaluated = [row for row in folder.metrics() if "val/loss" in row]
    return [{"run_id": folder.run_id, **{key: row.get(key) for key in CURVE_COLUMNS[1:]}} for row in evaluated]


def with_known_rows(
    rows: pd.DataFrame, known: Mapping[str, Mapping[str, str]], run_ids: Iterable[str], axes: Iterable[str]
) -> pd.DataFrame:
    """Return the rows of these runs in their order: `rows`, and of those that have none there the ones of `known`."""
    by_id = {**known, **{row["run_id"]: row for row in rows.to_dict("records")}}
    of_both = pd.DataFrame([by_id[run_id] for run_id in run_ids if run_id in by_id])
    return read_rows(StringIO(of_both.to_csv(index=False)), axes)


def read_rows(source: Path | StringIO, axes: Iterable[str] = ()) -> pd.DataFrame:
    """Read rows from a CSV file as `collect` gave them: an axis is text, "" where a run has none.

    Raises ConfigError for a file that is no table.
    """
    try:
        rows = pd.read_csv(source, dtype=dict.fromkeys(axes, str))
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise ConfigError(f"{source} is no table of runs ({first_line(error)}); restore it with git checkout") from None
    present = [axis for axis in axes if axis in rows]
    return rows.fillna(dict.fromkeys(present, ""))
