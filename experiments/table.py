"""Run folders as tables: one row a run, and the learning curves."""

from collections.abc import Iterable

import pandas as pd
from omegaconf import DictConfig

from experiments.config import run_id
from experiments.run_folder import RunFolder

ROW = ["model", "norm", "batch_size", "run_id", "experiment", "seed", "status", "lr"]  # of a table without rows
CURVE = ["run_id", "step", "examples", "seconds", "train/loss", "val/loss"]


def cell_columns(axes: Iterable[str]) -> list[str]:
    """The columns for which one learning rate is tuned."""
    return ["model", "norm", "batch_size", *axes]


def collect(configs: Iterable[DictConfig], runs_dir: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """(rows, curves, missing) of exactly these runs, in their order.

    rows: a summary a run. curves: validation loss by step, examples and seconds. missing: run ids without a result, so
    that a dropped run shows. Runs of the same experiment with other settings are not picked up.
    """
    rows, curves, missing = [], [], []
    for cfg in configs:
        folder = RunFolder(runs_dir, run_id(cfg))
        if not folder.finished:
            missing.append(folder.run_id)
            continue
        rows.append(folder.summary)
        evaluated = [row for row in folder.metrics() if "val/loss" in row]
        curves += [{"run_id": folder.run_id, **{key: row[key] for key in CURVE[1:]}} for row in evaluated]
    return pd.DataFrame(rows, columns=None if rows else ROW), pd.DataFrame(curves, columns=CURVE), missing
