"""Is what was written consistent? Checks of a run's folder, and of a table of runs against the folders.

A check returns one sentence for each problem, and none if there is no problem. Nothing is changed.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import yaml
from omegaconf import OmegaConf

import data
from experiments.config.errors import first_line
from experiments.runs.folder import FINISHED, DamagedCheckpointError, RunFolder, RunStatus, read_checkpoint, read_json
from experiments.runs.identity import run_id


def run_problems(folder: RunFolder) -> list[str]:
    """Check a run's name, rows, summary and checkpoints, and whether its process died."""
    problems = [f"{path.name} was left by a process that died" for path in folder.path.glob(".*.tmp")]
    problems += name_problems(folder)
    problems += row_problems(folder)
    if folder.status["status"] in FINISHED:
        problems += summary_problems(folder)
    problems += checkpoint_problems(folder)
    if folder.state == RunStatus.DIED:
        problems.append("its process died; the same command continues from its checkpoint")
    return problems


def name_problems(folder: RunFolder) -> list[str]:
    """Compare the folder's name with the hash of the recorded configuration, device and data."""
    environment = read_json(folder.path / "environment.json")
    config = folder.path / "config.yaml"
    if environment is None or not config.exists():
        incomplete = folder.status["status"] in (RunStatus.RUNNING, RunStatus.FAILED)
        return [] if incomplete else ["config.yaml or environment.json is missing"]
    try:
        cfg = OmegaConf.create(yaml.safe_load(config.read_text()))
        fingerprint = data.recorded_fingerprint(environment["data"])
        name = run_id(cfg, environment["device"], fingerprint, environment.get("ranks", 1))
    except Exception as error:  # a damaged file can lead to any
        return [f"config.yaml or environment.json is damaged ({type(error).__name__}: {first_line(error)})"]
    return [] if name == folder.run_id else [f"its configuration, device and data are those of {name}"]


def row_problems(folder: RunFolder) -> list[str]:
    """Check that every line of metrics.jsonl can be read, and that the steps increase."""
    path = folder.path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = folder.metrics()
    problems = []
    if len(rows) < len(lines) and folder.status["status"] != RunStatus.RUNNING:
        problems.append(f"metrics.jsonl is unreadable from line {len(rows) + 1} on")
    steps = [row.get("step", math.nan) for row in rows]
    if any(not later > earlier for earlier, later in pairwise(steps)):
        problems.append("the steps of metrics.jsonl do not increase")
    return problems


def summary_problems(folder: RunFolder) -> list[str]:
    """Compare the summary of a finished run with its status, and with its last row."""
    status, summary = folder.status["status"], folder.summary
    if summary is None:
        return [f"its status is {status}, but summary.json is missing or damaged"]
    problems = []
    if (summary.get("status"), summary.get("run_id")) != (status, folder.run_id):
        run = f"{summary.get('run_id')}, {summary.get('status')}"
        problems.append(f"summary.json is of {run}; the status in status.json is {status}")
    if status != RunStatus.DONE:
        return problems
    rows = folder.metrics()
    last = rows[-1] if rows else {}
    if last.get("step") != summary.get("steps"):
        problems.append(f"metrics.jsonl ends at step {last.get('step')}, summary.json at {summary.get('steps')}")
    differing = [key for key, value in last.items() if key.startswith("val/") and summary.get(key) != value]
    if differing:
        problems.append(f"summary.json differs from the last row of metrics.jsonl in {', '.join(differing)}")
    return problems


def checkpoint_problems(folder: RunFolder) -> list[str]:
    """Check the checksums of the checkpoints."""
    problems = []
    for name in ("last.pt", "previous.pt"):
        if not (folder.path / name).exists():
            continue
        try:
            read_checkpoint(folder.path / name, folder.run_id, "cpu")
        except DamagedCheckpointError as error:
            problems.append(f"{name} is damaged: {error}")
    return problems


def table_problems(path: Path, runs_dir: Path) -> list[str]:
    """Compare the rows of a table with the summaries of those runs that are in `runs_dir`."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        run_ids = table["run_id"]
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        return [f"it is not a table of runs ({type(error).__name__}: {first_line(error)})"]
    repeated = sorted(set(run_ids[run_ids.duplicated()]))
    problems = [f"{run_id} is in it more than once" for run_id in repeated]
    for row in table.to_dict("records"):
        summary = RunFolder(runs_dir, row["run_id"]).summary
        if summary is None:
            continue
        differing = [name for name, text in row.items() if text and not is_equal(text, summary.get(name))]
        if differing:
            problems.append(f"{row['run_id']} differs from its summary.json in {', '.join(differing)}")
    return problems


def is_equal(text: str, value) -> bool:
    """Compare an entry of a table with a value of a summary. Numbers that are written as text lose nothing."""
    if isinstance(value, (bool, str)) or value is None:
        return text == str(value)
    if isinstance(value, (int, float)):
        try:
            return math.isclose(float(text), value, rel_tol=1e-12)
        except ValueError:
            return False
    return text == json.dumps(value)
