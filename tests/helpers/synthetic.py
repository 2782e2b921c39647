"""Made-up rows for every run of a profile: what a report is built from, without training anything."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import experiments.report.__main__  # noqa: F401  (its schema, which the profiles are composed with)
from experiments.cli.compose import hydra_configs
from experiments.config.cell import cell
from experiments.judging.evidence import configs_of
from experiments.runs.folder import RunFolder, write_json
from experiments.runs.identity import run_id
from experiments.runs.rows import CURVE_COLUMNS, GRADIENT_COLUMNS
from experiments.sweeps.grid import expand
from experiments.training.gradients import AT_START, TRAINED

LEVELS = {"none": 2.6, "bn": 2.4, "ln": 2.45, "wn": 2.55, "gn": 2.45, "in": 2.8, "rms": 2.46}


def tables(profile: str, only: tuple[str, ...] = (), first_seed: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows, curves) of a profile's experiments, or of `only` some."""
    from hydra import compose

    with hydra_configs():
        chosen = compose("report", [f"profile={profile}"]).profile
    rows, curves = [], []
    for name, cfg in configs_of(chosen, first_seed).items():
        if only and name not in only:
            continue
        rate = ["optim.lr=0.01"] if cfg.experiment.tune_lr else []
        for run in expand(name, profile, [*rate, f"profile.first_seed={first_seed}"]):
            columns = cell(run)
            random = np.random.default_rng([run.seed, *map(ord, str(columns))])
            small = 0.3 if columns["norm"] == "bn" and columns["batch_size"] <= 2 else 0.0
            level = LEVELS.get(columns["norm"], 2.5) + small + 0.02 * random.standard_normal()
            metric = "test/bpc" if run.model.kind == "text" else cfg.experiment.metric
            values = level * (10 if metric == "test/error" else 1) + np.array([1.0, 0.5, 0.2, 0.05])
            exact = {column: 1e-7 for claim in cfg.experiment.claims for column in claim.holds}
            exact |= {column: 0.3 for claim in cfg.experiment.claims for column in claim.breaks}
            rows.append(
                {
                    "run_id": run_id(run),
                    "experiment": name,
                    "profile": profile,
                    "stage": "final",
                    **columns,
                    "data": run.data.name,
                    "lr": run.optim.lr,
                    "seed": run.seed,
                    **{"steps": 200, "examples": 6400, "epochs": 1.0},
                    "seconds": 3.2,
                    "best_val/loss": values[-1],
                    "val/loss": values[-1],
                    metric: values[-1],
                    **exact,
                    "status": "done",
                    "wall_seconds": 4.1,
                    "git": "0" * 40,
                    "dirty": False,
                    "torch": "2.13.0+cpu",
                    "python": "3.11.7",
                    "processor": "made up",
                }
            )
            for k, value in enumerate(values):
                curves.append((rows[-1]["run_id"], 50 * (k + 1), 1600 * (k + 1), 0.8 * (k + 1), value, value))
    return pd.DataFrame(rows), pd.DataFrame(curves, columns=CURVE_COLUMNS)


def gradients(rows: pd.DataFrame) -> pd.DataFrame:
    """Gradients through time of the runs, which vanish but with ln; one of them is 0."""
    made = [
        (run.run_id, moment, lag, 10.0 ** -(lag * (0.02 if run.norm == "ln" else 0.1)))
        for run in rows.itertuples()
        for moment in (AT_START, TRAINED)
        for lag in range(1, 50, 4)
    ]
    frame = pd.DataFrame(made, columns=GRADIENT_COLUMNS)
    frame.loc[len(frame) - 1, "norm"] = 0.0
    return frame


def diverge(rows: pd.DataFrame, at: int) -> pd.DataFrame:
    """The rows with one run diverged, as the trainer records it."""
    rows = rows.copy()
    metrics = [column for column in rows if column.startswith("test/")]
    rows.loc[rows.index[at], metrics] = np.nan
    rows.loc[rows.index[at], "status"] = "diverged"
    return rows


def folders(rows: pd.DataFrame, curves: pd.DataFrame, runs_dir: Path) -> None:
    """The same as finished run folders."""
    for row in rows.to_dict("records"):
        path = runs_dir / row["run_id"]
        present = {key: value for key, value in row.items() if pd.notna(value)}
        with RunFolder(runs_dir, row["run_id"]).lock() as folder:
            write_json(path / "summary.json", present | ({"diverged_at": 9} if row["status"] == "diverged" else {}))
            folder.set_status(row["status"])
        own = curves[curves["run_id"] == row["run_id"]].drop(columns="run_id")
        own.to_json(path / "metrics.jsonl", orient="records", lines=True, double_precision=15)


if __name__ == "__main__":  # python -m tests.helpers.synthetic standard /tmp/rows: for a look at a report
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    made, curves = tables(sys.argv[1])
    gradients(made[made["experiment"] == "recurrent_gain"]).to_csv(folder / "gradients.csv", index=False)
    diverge(made, 12).to_csv(folder / "runs.csv", index=False)
    curves.to_csv(folder / "curves.csv", index=False)
