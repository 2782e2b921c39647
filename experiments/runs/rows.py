"""Run folders as tables: one row a run, and the learning curves."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.runs.folder import RunFolder

ROW = ["model", "norm", "batch_size", "run_id", "experiment", "seed", "status", "lr"]  # of a table without rows
CURVE = ["run_id", "step", "examples", "seconds", "train/loss", "val/loss"]


def cell_columns(axes: Iterable[str]) -> list[str]:
    """The columns for which one learning rate is tuned."""
    return ["model", "norm", "batch_size", *axes]


def collect(run_ids: Iterable[str], runs_dir: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """(rows, curves, missing) of exactly these runs, in their order.

    rows: a summary a run. curves: losses by step, examples and seconds, wherever the validation loss was taken.
    missing: run ids without a result, so that a dropped run shows. Runs of the same experiment with other settings are
    not picked up.
    """
    rows, curves, missing = [], [], []
    for folder in (RunFolder(runs_dir, run_id) for run_id in run_ids):
        if not folder.finished:
            missing.append(folder.run_id)
            continue
        rows.append(folder.summary)
        evaluated = [row for row in folder.metrics() if "val/loss" in row]
        curves += [{"run_id": folder.run_id, **{key: row.get(key) for key in CURVE[1:]}} for row in evaluated]
    return pd.DataFrame(rows, columns=None if rows else ROW), pd.DataFrame(curves, columns=CURVE), missing


def read_rows(path: Path, axes: Iterable[str] = ()) -> pd.DataFrame:
    """Rows from a CSV file as `collect` gave them: an axis is text, "" where a run has none."""
    rows = pd.read_csv(path, dtype=dict.fromkeys(axes, str))
    present = [axis for axis in axes if axis in rows]
    return rows.fillna(dict.fromkeys(present, ""))


def reach(rows: pd.DataFrame, curves: pd.DataFrame, axes: Iterable[str] = ()) -> pd.DataFrame:
    """Rows with the steps, examples and seconds in which each run reached what no normalisation reached at its best.

    The mark is the best validation loss of the un-normalised run of the same seed, model, batch size and axes. Between
    two evaluations the loss is taken to fall in a straight line. Columns: reach/steps, reach/examples, reach/seconds
    (NaN where the mark was not reached), and reach/steps_ratio, reach/seconds_ratio, relative to the un-normalised
    run's own, where a run that did not reach it counts with its whole budget: its true figure is larger. Seconds are
    of training alone. All are NaN without an un-normalised run to compare with.
    """
    place = ["seed", *(column for column in cell_columns(axes) if column != "norm")]
    found = {run_id: curve.sort_values("step") for run_id, curve in curves.groupby("run_id")}
    plain = rows[(rows["norm"] == "none") & (rows["status"] == "done")]
    rivals = {tuple(row[place]): row for _, row in plain.iterrows()}
    lines: list[dict[str, float]] = []
    for _, row in rows.iterrows():
        rival, curve = rivals.get(tuple(row[place])), found.get(row["run_id"])
        if rival is None or curve is None or row["status"] != "done":
            lines.append({})
            continue
        mark = rival["best_val/loss"]
        own, base = _crossing(curve, mark), _crossing(found[rival["run_id"]], mark)
        line = {f"reach/{axis}": value for axis, value in own.items()}
        for axis, last in (("steps", "step"), ("seconds", "seconds")):
            reached = own[axis] if np.isfinite(own[axis]) else curve[last].iloc[-1]
            line[f"reach/{axis}_ratio"] = reached / base[axis]
        lines.append(line)
    columns = ["reach/steps", "reach/examples", "reach/seconds", "reach/steps_ratio", "reach/seconds_ratio"]
    return rows.join(pd.DataFrame(lines, index=rows.index, columns=columns))


def _crossing(curve: pd.DataFrame, mark: float) -> dict[str, float]:
    """Steps, examples and seconds at which a validation loss first comes down to the mark; NaN if it never does."""
    loss, axes = curve["val/loss"].to_numpy(), {"steps": "step", "examples": "examples", "seconds": "seconds"}
    below = np.flatnonzero(loss <= mark)
    if not len(below):
        return dict.fromkeys(axes, np.nan)
    at = below[0]
    if at == 0:
        return {name: float(curve[axis].iloc[0]) for name, axis in axes.items()}
    part = (loss[at - 1] - mark) / (loss[at - 1] - loss[at])
    values = {name: curve[axis].to_numpy() for name, axis in axes.items()}
    return {name: float(x[at - 1] + part * (x[at] - x[at - 1])) for name, x in values.items()}
