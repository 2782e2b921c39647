"""The runs of a cell as the page lists them, with the command that makes them again, and an experiment's recipe."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from experiments.judging.evidence import ExperimentResult
from experiments.judging.words import describe
from experiments.report import tables
from experiments.sweeps.again import cell_overrides


@dataclass(frozen=True)
class CellRuns:
    """Runs of one cell: what they share, and each run as a row of the table."""

    name: str
    lr: str
    commits: str
    command: str
    runs: list[dict]


def cell_runs(rows: pd.DataFrame, result: ExperimentResult, profile: str) -> list[CellRuns]:
    """Return runs by cell. Runs of a source are grouped by the columns that they share with this experiment."""
    cells = []
    for name, of_experiment in rows.groupby("experiment", sort=False):
        for cell, runs in tables.each_cell(of_experiment, result.experiment):
            present = describe({key: value for key, value in cell.items() if value != ""})
            if name == result.experiment.name:
                again = command(cell, result, profile, runs["seed"])
            else:
                present, again = f"{name}: {present}", f"bash scripts/{name}.sh profile={profile}"
            rates = ", ".join(f"{lr:g}" for lr in sorted(set(runs["lr"])))
            commits = ", ".join(sorted({commit[:12] for commit in runs["git"]}))
            metric, _ = tables.metric_of(runs, result.experiment)
            cells.append(CellRuns(present, rates, commits, again, [_run(row, metric) for _, row in runs.iterrows()]))
    return cells


def _run(row: pd.Series, metric: str) -> dict:
    return {
        "run_id": row["run_id"],
        "seed": row["seed"],
        "status": row["status"],
        "value": "" if pd.isna(row.get(metric)) else f"{row[metric]:.4g}",
        "seconds": "" if pd.isna(row.get("seconds")) else f"{row['seconds']:.1f}",
    }


def command(cell: dict, result: ExperimentResult, profile: str, seeds: pd.Series) -> str:
    """Return the command that makes a cell's runs again, and only them."""
    own = " ".join(cell_overrides(cell, result.experiment.axes))
    seeds = ",".join(map(str, dict.fromkeys(seeds)))
    return f"python -m experiments.train -m experiment={result.experiment.name} profile={profile} {own} seed={seeds}"


def recipe(cfg: DictConfig) -> list[tuple[str, str]]:
    """Return the settings that the experiment's runs share, and its grid."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    lines = [(key, _settings(plain[key])) for key in ("data", "model", "optim", "trainer")]
    params: Any = OmegaConf.to_container(cfg.hydra.sweeper.params or OmegaConf.create(), resolve=True)
    grids: Any = OmegaConf.to_container(cfg.experiment.grids, resolve=True)
    for number, grid in enumerate(grids, 1):
        lines.append((f"grid {number}" if len(grids) > 1 else "grid", _settings({**params, **grid})))
    lines.append(("seeds", ", ".join(map(str, cfg.experiment.final_seeds))))
    if cfg.experiment.tune_lr:
        tried = ", ".join(f"{lr:g}" for lr in cfg.experiment.tune_lr)
        seeds = ", ".join(map(str, cfg.experiment.tune_seeds))
        lines.append(
            ("learning rates", f"of {tried}, the best in the validation split on seeds {seeds}, for every cell")
        )
    return lines


def _settings(node: dict) -> str:
    """Return key=value of a group, without what is not set and without paths."""
    left_out = ("root", "cache", "path", "kind", "checkpoint_every", "capture", "log_every")
    shown_ = {key: value for key, value in node.items() if value not in (None, [], "") and key not in left_out}
    return ", ".join(f"{key}={'tuned' if 'tuned_lr' in str(value) else value}" for key, value in shown_.items())
