"""Is what was written consistent? Checks of a run's folder, and of a table of runs against the folders.

A check returns one sentence for each problem, and none if there is no problem. Nothing is changed.
"""

import json
import math
import os
from itertools import pairwise
from pathlib import Path

from omegaconf import OmegaConf

import data
from experiments.config.errors import first_line
from experiments.config.schema import Trainer
from experiments.runs.folder import RESULT_FILES, DamagedCheckpointError, RunFolder, is_of_rows, read_checkpoint
from experiments.runs.identity import run_names
from experiments.runs.records import DamagedFileError, RunStatus, read_config, read_environment
from experiments.runs.schedule import Schedule, budget


def run_problems(folder: RunFolder) -> list[str]:
    """Check a run's name, rows, summary and checkpoints, and whether its process died."""
    try:
        os.listdir(folder.path)
    except OSError as error:
        return [f"its folder cannot be read ({error.strerror})"]
    problems = [f"{path.name} was left by a process that died" for path in folder.path.glob(".*.tmp")]
    if not (folder.path / "status.json").exists():
        problems.append("status.json is missing; start the run again")
    problems += [line for line in (folder.damage, folder.changed) if line]
    problems += name_problems(folder)
    problems += row_problems(folder)
    if folder.finished:
        problems += summary_problems(folder)
    problems += checkpoint_problems(folder)
    if folder.state == RunStatus.DIED:
        problems.append("its process died; the same command continues from its checkpoint")
    return problems


def name_problems(folder: RunFolder) -> list[str]:
    """Compare the folder's name with the hash of the recorded configuration, device and data."""
    status = folder.status["status"]
    absent = [name for name in RESULT_FILES[:2] if not (folder.path / name).exists()]
    if absent:
        incomplete = status in (RunStatus.RUNNING, RunStatus.FAILED)
        return [] if incomplete else [f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing"]
    try:
        cfg = OmegaConf.create(read_config(folder.path / "config.yaml"))
        environment = read_environment(folder.path / "environment.json") or {}
        fingerprint = data.recorded_fingerprint(environment["data"])
        names = run_names(cfg, environment["device"], fingerprint, environment.get("ranks", 1))
    except DamagedFileError as error:
        return [str(error)]
    except Exception as error:  # a section without a field of the identity can lead to any
        return [f"config.yaml is damaged ({type(error).__name__}: {first_line(error)})"]
    return [] if folder.run_id in names else [f"its configuration, device and data are those of {names[0]}"]


def row_problems(folder: RunFolder) -> list[str]:
    """Check that every line of metrics.jsonl is a row, that the steps increase, and that none is left out."""
    try:
        rows, damage, _ = folder.read_rows()
    except DamagedFileError as error:
        return [str(error)]
    status = folder.status
    if damage:
        return [] if status["status"] == RunStatus.RUNNING else [f"metrics.jsonl is damaged in {damage}"]
    steps = [row["step"] for row in rows]
    if any(not later > earlier for earlier, later in pairwise(steps)):
        return ["the steps of metrics.jsonl do not increase"]
    missing = sorted(set(_due(folder)) - set(steps))
    listed = ", ".join(map(str, missing[:3])) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return [f"metrics.jsonl lacks the row of step {listed}"] if missing else []


def _due(folder: RunFolder) -> list[int]:
    """Return the steps that must have a row: up to the end of a finished run, up to the checkpoint of another."""
    summary, status = (folder.summary or {}) if folder.finished else {}, folder.status
    steps = summary.get("steps") or status.get("steps")
    try:
        cfg = read_config(folder.path / "config.yaml")
        trainer = Trainer(**cfg["trainer"])
        if steps is None and trainer.epochs is None:
            steps = budget(trainer, 0, cfg["data"]["batch_size"])
        schedule = Schedule.of(trainer, steps)
    except Exception:  # name_problems reports what is wrong with it
        return []
    if "diverged_at" in summary:  # if the loss after that very step was not finite, it has no row
        return schedule.logged(summary["diverged_at"] - 1)
    return schedule.logged(summary.get("steps") or _checkpoint_step(folder))


def _checkpoint_step(folder: RunFolder) -> int:
    try:
        return read_checkpoint(folder.path / "last.pt", folder.run_id, "cpu")["state"]["step"]
    except DamagedCheckpointError:
        return 0


def summary_problems(folder: RunFolder) -> list[str]:
    """Compare the summary of a finished run with its last row."""
    summary = folder.summary or {}
    try:
        rows = folder.metrics()
    except DamagedFileError:  # row_problems reports it
        return []
    last = rows[-1] if rows else {}
    if summary["status"] != RunStatus.DONE:
        return []
    if last.get("step") != summary["steps"]:
        return [f"metrics.jsonl ends at step {last.get('step')}, summary.json at {summary['steps']}"]
    differing = [key for key, value in last.items() if key.startswith("val/") and summary.get(key) != value]
    return [f"summary.json differs from the last row of metrics.jsonl in {', '.join(differing)}"] if differing else []


def checkpoint_problems(folder: RunFolder) -> list[str]:
    """Check the checksums of the checkpoints, and of the rows that they were saved with."""
    problems = []
    for name in ("last.pt", "previous.pt"):
        if not (folder.path / name).exists():
            continue
        try:
            checkpoint = read_checkpoint(folder.path / name, folder.run_id, "cpu")
            rows = [row for row in folder.read_rows().rows if row["step"] <= checkpoint["state"]["step"]]
        except DamagedCheckpointError as error:
            problems.append(f"{name} is damaged: {error}")
        except DamagedFileError:  # row_problems reports it
            continue
        else:
            if not is_of_rows(checkpoint, rows):
                problems.append(f"metrics.jsonl does not hold the rows that {name} was saved with")
    return problems


def table_problems(path: Path, runs_dir: Path) -> list[str]:
    """Compare the rows of a table with the summaries of those runs that are in `runs_dir`."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        run_ids = table["run_id"]
    except (OSError, ValueError, KeyError) as error:
        return [f"it is not a table of runs ({type(error).__name__}: {first_line(error)})"]
    repeated = sorted(set(run_ids[run_ids.duplicated()]))
    problems = [f"{run_id} is in it more than once" for run_id in repeated]
    for row in table.to_dict("records"):
        summary = RunFolder(runs_dir, row["run_id"]).summary
        if summary is None:
            continue
        # Columns of other experiments are empty here: what a summary lacks can differ only by a metric's value.
        compared = [name for name, text in row.items() if name in summary or ("/" in name and text)]
        differing = [name for name in compared if name not in summary or not is_equal(row[name], summary[name])]
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
