"""The runs that are compared: found, read, and notices of what limits them."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path
from typing import Any

import data
from experiments.config.errors import ConfigError, nearest
from experiments.config.schema import PLACES, SECTIONS
from experiments.runs.folder import RunFolder, folders_in
from experiments.runs.records import DamagedFileError, RunStatus, read_config, read_environment

NEVER_A_CAUSE = {  # of a metric: places, habits, and what else is measured
    *(*PLACES, "data.path", "data.eval_batch_size", "model.kind", "data.kind"),
    *("trainer.log_every", "trainer.capture", "trainer.statistics", "trainer.measure"),
}
CONTENT = "data.content"  # the fingerprint of the data: two texts, or one in two versions, make two cells
ORIGIN = ("git", "torch", "python", "device", "processor", "threads")


@dataclass(frozen=True)
class OwnRun:
    """A run that ended: its configuration as text by field, its row, the rows of its evaluations, its origin."""

    path: Path
    fields: dict[str, str]
    seed: int
    row: dict[str, Any]
    curve: list[dict]
    origin: dict[str, str]

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def diverged(self) -> bool:
        return self.row["status"] == RunStatus.DIVERGED

    def value(self, metric: str) -> float | None:
        """Return the metric; None where the run diverged or lacks it, and where it is no finite number."""
        value = self.row.get(metric)
        if self.diverged or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        return float(value)


# --- Finding ----------------------------------------------------------------------------------------------------------


def folders_of(patterns: list[str], runs_dir: str) -> list[RunFolder]:
    """Return the folders that the patterns name, each once, whatever their order. Raises ConfigError for none."""
    here = folders_in(runs_dir)
    if not patterns and not here:
        raise ConfigError(f"there is no run in {runs_dir}; train some, or name a folder of runs, as runs=FOLDER")
    found = [folder for pattern in patterns for folder in _folders_of(pattern, here, runs_dir)] if patterns else here
    by_path = {folder.path.resolve(): folder for folder in found}
    return sorted(by_path.values(), key=lambda folder: (folder.run_id, str(folder.path)))


def _folders_of(pattern: str, here: list[RunFolder], runs_dir: str) -> list[RunFolder]:
    """Return the runs of one pattern: a run's folder, a folder of runs, or names of those here, in runs_dir."""
    named = [pattern] if Path(pattern).is_dir() else glob(pattern) if "/" in pattern else []
    paths = [Path(path) for path in named]
    found = [RunFolder(path.parent, path.name) for path in paths if (path / "config.yaml").is_file()]
    found += [folder for path in paths for folder in folders_in(path)]
    found += [one for one in here if one.run_id.startswith(pattern) or fnmatchcase(one.run_id, pattern)]
    if found:
        return found
    if not here:
        raise ConfigError(f"runs={pattern} is no folder of runs, and there is no run in {runs_dir}; train some first")
    names = [folder.run_id for folder in here]
    raise ConfigError(
        f"runs={pattern} is no folder of runs and matches none of the {len(names)} runs in {runs_dir}; "
        f"nearest: {nearest(pattern, names)}"
    )


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_runs(patterns: list[str], runs_dir: str) -> tuple[list[OwnRun], list[str]]:
    """Return the runs that ended, and in sentences what is left out or differs. Raises ConfigError if none ended."""
    folders = folders_of(patterns, runs_dir)
    runs, notices, unfinished = [], [], Counter[str]()
    for folder in folders:
        try:
            if folder.finished:
                runs.append(_read(folder))
                notices += [f"{folder.path}: {folder.changed}"] if folder.changed else []
            elif folder.damage:
                notices.append(f"{folder.run_id} is left out: {folder.damage}")
            else:
                unfinished[folder.state] += 1
        except DamagedFileError as error:
            notices.append(f"{folder.run_id} is left out: {error}")
    if unfinished:
        states = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
        notices.append(f"{unfinished.total()} of {len(folders)} runs are left out, since they have no result: {states}")
    if not runs:
        raise ConfigError(
            f"none of the {len(folders)} runs has a result; {'; '.join(notices)}; "
            "start the command that began them again"
        )
    return runs, notices + _differing_origin(runs)


def _read(folder: RunFolder) -> OwnRun:
    """Read a finished run. Raises DamagedFileError."""
    config = read_config(folder.path / "config.yaml")
    environment = read_environment(folder.path / "environment.json")
    if environment is None:
        raise DamagedFileError("environment.json is missing")
    fields = {"stage": config["stage"]} | {
        f"{section}.{name}": text_of(value) for section in SECTIONS for name, value in config[section].items()
    }
    fields = {name: value for name, value in fields.items() if name not in NEVER_A_CAUSE}
    fields[CONTENT] = data.recorded_fingerprint(environment["data"])[:8]
    row = folder.summary or {}
    processes = [*environment.get("earlier", ()), environment]
    origin = {name: ", ".join(dict.fromkeys(str(one.get(name, "unknown")) for one in processes)) for name in ORIGIN}
    origin["git"] = " + ".join(dict.fromkeys(f"{one['git'][:12]}{' and edits' * one['dirty']}" for one in processes))
    curve = [entry for entry in folder.metrics() if any(name.startswith("val/") for name in entry)]
    return OwnRun(folder.path, fields, config["seed"], row, curve, origin)


def text_of(value: Any) -> str:
    """Return a value of a configuration as it is shown and typed: 0.003, null, true, [8, 6]."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, (int, float)) else str(value)


def _differing_origin(runs: Iterable[OwnRun]) -> list[str]:
    """Return a sentence for each part of the origin in which the runs differ."""
    words = {"git": "commits", "device": "devices", "processor": "processors", "threads": "numbers of threads"}
    notices = []
    for name in ORIGIN:
        count = Counter(run.origin[name] for run in runs)
        if len(count) > 1:
            each = ", ".join(f"{value} ({number} runs)" for value, number in sorted(count.items()))
            notices.append(f"The runs are of {len(count)} {words.get(name, f'versions of {name}')}: {each}.")
    return notices
