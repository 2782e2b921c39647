"""Run folders as tables: one row per run, and the learning curves."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.runs.folder import RunFolder, RunStatus

ROW_COLUMNS = ["model", "norm", "batch_size", "run_id", "experiment", "seed", "status", "lr"]  # of a table without rows
CURVE_COLUMNS = ["run_id", "step", "examples", "seconds", "train/loss", "val/loss"]
REACH_COLUMNS = ["reach/steps", "reach/examples", "reach/seconds", "reach/steps_ratio", "reach/seconds_ratio"]


def cell_columns(axes: Iterable[str]) -> list[str]:
    """Return the columns for which one learning rate is tuned."""
    return ["model", "norm", "batch_size", *axes]


def collect(run_ids: Iterable[str], runs_dir: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return (rows, curves, missing) of exactly these runs, in their order.

    rows: the summary of each run. curves: losses by step, examples and seconds, wherever the validation loss was taken.
    missing: run ids without a result, so that a dropped run shows. Runs of the same experiment with other settings are
    left out.
    """
    rows, curves, missing = [], [], []
    for folder in (RunFolder(runs_dir, run_id) for run_id in run_ids):
        if not folder.finished:
            missing.append(folder.run_id)
            continue
        rows.append(folder.summary)
        curves += _curve(folder)
    columns = None if rows else ROW_COLUMNS
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(curves, columns=CURVE_COLUMNS), missing


def _curve(folder: RunFolder) -> list[dict]:
    evaluated = [row for row in folder.metrics() if "val/loss" in row]
    return [{"run_id": folder.run_id, **{key: row.get(key) for key in CURVE_COLUMNS[1:]}} for row in evaluated]


def read_rows(path: Path, axes: Iterable[str] = ()) -> pd.DataFrame:
    """Read rows from a CSV file as `collect` gave them: an axis is text, "" where a run has none."""
    rows = pd.read_csv(path, dtype=dict.fromkeys(axes, str))
    present = [axis for axis in axes if axis in rows]
    return rows.fillna(dict.fromkeys(present, ""))


def reach(rows: pd.DataFrame, curves: pd.DataFrame, axes: Iterable[str] = ()) -> pd.DataFrame:
    """Return the rows with the steps, examples and seconds in which each run reached the un-normalised baseline's best.

    The target is the best validation loss of the un-normalised run of the same seed, model, batch size and axes.
    Between two evaluations the loss is interpolated linearly. Columns: reach/steps, reach/examples, reach/seconds (NaN
    where the target was not reached), and reach/steps_ratio, reach/seconds_ratio, relative to the baseline's own, where
    a run that did not reach it counts with its whole budget: its true figure is larger. Seconds are of training alone.
    All are NaN without a baseline to compare with.
    """
    pairing = ["seed", *(column for column in cell_columns(axes) if column != "norm")]
    curve_of_run = {run_id: curve.sort_values("step") for run_id, curve in curves.groupby("run_id")}
    unnormalised = rows[(rows["norm"] == "none") & (rows["status"] == RunStatus.DONE)]
    baselines = {tuple(row[pairing]): row for _, row in unnormalised.iterrows()}
    reached: list[dict[str, float]] = []
    for _, row in rows.iterrows():
        baseline = baselines.get(tuple(row[pairing]))
        curve = curve_of_run.get(row["run_id"])
        if baseline is None or curve is None or row["status"] != RunStatus.DONE:
            reached.append({})
        else:
            reached.append(_reach(curve, curve_of_run[baseline["run_id"]], target=baseline["best_val/loss"]))
    return rows.join(pd.DataFrame(reached, index=rows.index, columns=REACH_COLUMNS))


def _reach(curve: pd.DataFrame, baseline: pd.DataFrame, target: float) -> dict[str, float]:
    """Return the reach/... columns of one run, from its curve and its baseline's."""
    crossing = _crossing(curve, target)
    reference = _crossing(baseline, target)
    columns = {f"reach/{axis}": value for axis, value in crossing.items()}
    for axis, column in (("steps", "step"), ("seconds", "seconds")):
        cost = crossing[axis] if np.isfinite(crossing[axis]) else curve[column].iloc[-1]
        columns[f"reach/{axis}_ratio"] = cost / reference[axis]
    return columns


def _crossing(curve: pd.DataFrame, target: float) -> dict[str, float]:
    """Return steps, examples and seconds at which the validation loss first comes down to the target; NaN if never."""
    loss = curve["val/loss"].to_numpy()
    axes = {"steps": "step", "examples": "examples", "seconds": "seconds"}
    below = np.flatnonzero(loss <= target)
    if not len(below):
        return dict.fromkeys(axes, np.nan)
    at = below[0]
    if at == 0:
        return {name: float(curve[axis].iloc[0]) for name, axis in axes.items()}
    part = (loss[at - 1] - target) / (loss[at - 1] - loss[at])
    values = {name: curve[axis].to_numpy() for name, axis in axes.items()}
    return {name: float(x[at - 1] + part * (x[at] - x[at - 1])) for name, x in values.items()}
