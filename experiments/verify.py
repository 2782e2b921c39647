"""Is everything in a results folder what it was when it was written?

python -m experiments.verify                                results/runs, and the tables of the reports beside it
python -m experiments.verify runs_dir=FOLDER rows=[FOLDER/runs.csv]

Of every run: its name against the hash of its configuration, device and data; rows and summary against each other; the
checksums of its checkpoints; what a dead process left. Of every table: its rows against the runs. Prints a line for
whatever is wrong and exits with 1 when something is. Changes nothing.
"""

import json
import math
import sys
from dataclasses import dataclass, field
from glob import glob
from itertools import pairwise
from pathlib import Path

import hydra
import pandas as pd
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

import data
from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS, ROOT
from experiments.config.schema import RUNS_DIR
from experiments.runs.folder import FINISHED, DamagedCheckpointError, RunFolder, read_checkpoint, read_json
from experiments.runs.identity import run_id


@dataclass
class Verify:
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    rows: list[str] = field(
        default_factory=lambda: ["results/*/runs.csv"], metadata={"help": "tables that are compared with the runs"}
    )


ConfigStore.instance().store(name="verify_schema", node=Verify)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="verify")
def verify(cfg: DictConfig) -> None:
    with refusals_in_one_line("verify"):
        runs = sorted(path for path in Path(cfg.runs_dir).glob("*/") if (path / "status.json").exists())
        tables = sorted({Path(path) for pattern in cfg.rows for path in glob(str(ROOT / pattern))})
        if not runs and not tables:
            raise ConfigError(f"runs_dir={cfg.runs_dir} holds no run and rows={list(cfg.rows)} name no table")
    wrong = 0
    for path in track(runs, "runs", transient=True, disable=not sys.stdout.isatty()):
        for problem in problems(RunFolder(path.parent, path.name)):
            print(f"{path}: {problem}")
            wrong += 1
    for path in tables:
        for problem in table_problems(path, Path(cfg.runs_dir)):
            print(f"{path}: {problem}")
            wrong += 1
    print(f"{len(runs)} runs and {len(tables)} tables: " + (f"{wrong} problems" if wrong else "all as written"))
    sys.exit(1 if wrong else 0)


def problems(folder: RunFolder) -> list[str]:
    """What is wrong with a run's folder, a sentence each."""
    found = [f"{path.name} was left by a process that died" for path in folder.path.glob(".*.tmp")]
    found += _identity(folder) + _rows(folder)
    for name in ("last.pt", "previous.pt"):
        if (folder.path / name).exists():
            try:
                read_checkpoint(folder.path / name, folder.run_id, "cpu")
            except DamagedCheckpointError as error:
                found.append(f"{name} is damaged: {error}")
    if folder.state == "died":
        found.append("its process died; the same command goes on from its checkpoint")
    return found


def _identity(folder: RunFolder) -> list[str]:
    """The name against what can change the numbers, as the folder tells it."""
    environment = read_json(folder.path / "environment.json")
    path = folder.path / "config.yaml"
    if environment is None or not path.exists():
        return [] if folder.status["status"] in ("running", "failed") else ["config.yaml or environment.json is gone"]
    try:
        cfg = OmegaConf.create(yaml.safe_load(path.read_text()))
        fingerprint = data.recorded_fingerprint(environment["data"])
        name = run_id(cfg, environment["device"], fingerprint, environment.get("ranks", 1))
    except Exception as error:  # whatever a damaged file leads to
        return [f"config.yaml or environment.json is damaged ({type(error).__name__}: {error})".partition("\n")[0]]
    return [] if name == folder.run_id else [f"its configuration, device and data are those of {name}"]


def _rows(folder: RunFolder) -> list[str]:
    """metrics.jsonl and summary.json by themselves and against each other."""
    path, summary, status = folder.path / "metrics.jsonl", folder.summary, folder.status["status"]
    found = []
    lines = path.read_text().splitlines() if path.exists() else []
    rows = folder.metrics()
    if len(rows) < len(lines) and status != "running":
        found.append(f"metrics.jsonl is unreadable from line {len(rows) + 1} on")
    steps = [row.get("step", math.nan) for row in rows]
    if any(not later > earlier for earlier, later in pairwise(steps)):
        found.append("the steps of metrics.jsonl do not increase")
    if status not in FINISHED:
        return found
    if summary is None:
        return [*found, f"it is said to be {status}, and summary.json is gone or damaged"]
    if (summary.get("status"), summary.get("run_id")) != (status, folder.run_id):
        found.append(f"summary.json is of {summary.get('run_id')}, {summary.get('status')}; status.json says {status}")
    if status == "done":
        last = rows[-1] if rows else {}
        if last.get("step") != summary.get("steps"):
            found.append(f"metrics.jsonl ends at step {last.get('step')}, summary.json at {summary.get('steps')}")
        differ = [key for key, value in last.items() if key.startswith("val/") and summary.get(key) != value]
        if differ:
            found.append(f"summary.json differs from the last row of metrics.jsonl in {', '.join(differ)}")
    return found


def table_problems(path: Path, runs_dir: Path) -> list[str]:
    """The rows of a table against the summaries of the runs that are here."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        run_ids = list(table["run_id"])
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        return [f"no table of runs ({type(error).__name__}: {error})".partition("\n")[0]]
    found = [f"{run_id} stands there more than once" for run_id in sorted({i for i in run_ids if run_ids.count(i) > 1})]
    for row in table.to_dict("records"):
        summary = RunFolder(runs_dir, row["run_id"]).summary
        if summary is None:
            continue
        differ = [name for name, text in row.items() if text and not _equal(text, summary.get(name))]
        if differ:
            found.append(f"{row['run_id']} differs from its summary.json in {', '.join(differ)}")
    return found


def _equal(text: str, value) -> bool:
    """A table's entry against a summary's value. Numbers go through text and lose nothing."""
    if isinstance(value, (bool, str)) or value is None:
        return text == str(value)
    if isinstance(value, (int, float)):
        try:
            return math.isclose(float(text), value, rel_tol=1e-12)
        except ValueError:
            return False
    return text == json.dumps(value)


def main() -> None:
    command(verify, "verify")


if __name__ == "__main__":
    main()
