"""What the files of a run's folder hold, and one reader for each kind.

A reader returns what a run writes, or raises DamagedFileError: a file may be cut, overwritten or another run's. Where
nothing stands, a reader of a single object returns None.
"""

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import yaml

from experiments.config.errors import first_line
from experiments.config.schema import SECTIONS


class DamagedFileError(ValueError):
    """A file is not what a run writes. The message is one line: the file, and how it differs."""


class RunStatus(StrEnum):
    """Where a run stands, and what came of an attempt to train it."""

    # Written into status.json
    RUNNING = "running"
    DONE = "done"
    DIVERGED = "diverged"  # a loss or gradient was not finite, which is a result
    INTERRUPTED = "interrupted"  # stopped by a signal, with a checkpoint
    FAILED = "failed"
    # Read off the folder
    NEW = "new"  # there is no status.json
    DIED = "died"  # status.json says running, and no process holds the lock
    DAMAGED = "damaged"  # status.json is damaged, or a finished run's summary.json
    # The outcome of an attempt that did not train
    SKIPPED = "skipped"  # the run was finished
    RUNNING_ELSEWHERE = "running elsewhere"  # another process holds the lock


FINISHED = (RunStatus.DONE, RunStatus.DIVERGED)
WRITTEN = (RunStatus.RUNNING, *FINISHED, RunStatus.INTERRUPTED, RunStatus.FAILED)

NUMBER = (int, float)
Form = Mapping[str, type | tuple[type, ...]]

STATUS: Form = {"status": str, "pid": int, "host": str, "updated": NUMBER}
PROGRESS: Form = {"step": int, "steps": int, "seconds": NUMBER, "loss": NUMBER, "val": dict}  # as far as it is known
SUMMARY: Form = {
    **{"run_id": str, "status": str, "experiment": str, "profile": str, "stage": str, "data": str},
    **{"model": str, "norm": str, "batch_size": int, "lr": NUMBER, "seed": int, "wall_seconds": NUMBER},
    **{"git": str, "dirty": bool, "torch": str, "python": str},
}
RESULT: Form = {"steps": int, "examples": int, "epochs": NUMBER, "seconds": NUMBER}  # of a run that is done
ROW: Form = {"step": int, "examples": int, "seconds": NUMBER}
ENVIRONMENT: Form = {"git": str, "dirty": bool, "python": str, "torch": str, "device": str, "data": dict}
MANIFEST: Form = {"preparation": int, "sources": list, "counts": dict}
CONFIG: Form = {
    **dict.fromkeys((*SECTIONS, "experiment", "profile", "wandb"), dict),
    **{"stage": str, "seed": int, "threads": int},
}


def read_status(path: Path) -> dict | None:
    """Return status.json: STATUS, as much of PROGRESS as is known, a message."""
    status = _read_json(path)
    if status is None:
        return None
    _check(path, status, STATUS)
    if status["status"] not in WRITTEN:
        raise DamagedFileError(f"{path.name} is damaged: status is {_shown(status['status'])}")
    _check(path, status, {name: kind for name, kind in PROGRESS.items() if name in status})
    _check(path, status, {name: kind for name, kind in (("message", str), ("sha256", dict)) if name in status})
    if "steps" in status:
        if not 0 <= status.get("step", -1) <= status["steps"] or not status["steps"]:
            raise DamagedFileError(f"{path.name} is damaged: step {status.get('step')} of {status['steps']}")
        if status["status"] == RunStatus.RUNNING:
            _check(path, status, {name: PROGRESS[name] for name in ("loss", "val")})
            _check(path, status["val"], dict.fromkeys(status["val"], NUMBER), finite=False)
    return status | {"status": RunStatus(status["status"])}


def read_summary(path: Path, run_id: str) -> dict | None:
    """Return the row of the finished run `run_id`: SUMMARY, RESULT unless it diverged, metrics."""
    summary = _read_json(path)
    if summary is None:
        return None
    _check(path, summary, SUMMARY)
    if summary["run_id"] != run_id:
        raise DamagedFileError(f"{path.name} is of another run, {' '.join(summary['run_id'].split())[:250]}")
    if summary["status"] not in FINISHED:
        raise DamagedFileError(f"{path.name} is damaged: status is {_shown(summary['status'])}")
    _check(path, summary, RESULT if summary["status"] == RunStatus.DONE else {"diverged_at": int})
    if wrong := [name for name, value in summary.items() if isinstance(value, (dict, list))]:
        raise DamagedFileError(f"{path.name} is damaged: {wrong[0]} is no single value")
    return summary


def read_environment(path: Path) -> dict | None:
    """Return environment.json: ENVIRONMENT, where `data` is a MANIFEST."""
    environment = _read_json(path)
    if environment is None:
        return None
    _check(path, environment, ENVIRONMENT)
    _check(path, environment, {"earlier": list} if "earlier" in environment else {})
    _check(path, environment["data"], MANIFEST)
    parts: list[tuple[Any, Form]] = [(source, {"sha256": str}) for source in environment["data"]["sources"]]
    parts += [(process, {"git": str, "dirty": bool}) for process in environment.get("earlier", ())]
    for part, form in parts:
        if not isinstance(part, dict):
            raise DamagedFileError(f"{path.name} is damaged: it holds {_shown(part)}, no object")
        _check(path, part, form)
    return environment


def read_wandb_ids(path: Path) -> dict | None:
    """Return wandb.json: the run's id there, and its sweep, project and entity or None."""
    ids = _read_json(path)
    if ids is not None:
        _check(path, ids, {"id": str})
        _check(path, ids, dict.fromkeys(ids, (str, NoneType)))
    return ids


def read_upload(path: Path) -> dict | None:
    """Return uploaded.json; None where it is damaged too: the upload is then repeated."""
    try:
        return _read_json(path)
    except DamagedFileError:
        return None


def read_written(path: Path) -> set[str]:
    """Return the files that .written.json lists, by their paths below its folder; none where it is damaged."""
    try:
        files = (_read_json(path) or {}).get("files")
    except DamagedFileError:
        return set()
    names = [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
    return {name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}


class Rows(NamedTuple):
    """The rows of metrics.jsonl up to the first damaged line."""

    rows: list[dict]
    damage: str  # which line and how, "" if there is none
    is_last: bool  # whether the damaged line is the last: a process was killed while it wrote


def read_rows(path: Path) -> Rows:
    """Return the rows of metrics.jsonl; none where there is no file. Raises DamagedFileError if it cannot be read."""
    lines = (_read_bytes(path) or b"").split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows: list[dict] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = _parse(line)
            _check(path, row, ROW)
            _check(path, row, dict.fromkeys(row, NUMBER), finite=False)  # a perplexity can overflow
        except ValueError as error:
            reason = str(error).removeprefix(f"{path.name} is damaged: ")
            return Rows(rows, f"line {number}: {reason}", number == len(lines))
        rows.append(row)
    return Rows(rows, "", False)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml takes a sixth of the time: folders are many
_DEEPEST = 30  # sections in each other; a configuration has six


def _plain_yaml(text: str) -> Any:
    """Return what a YAML text holds. Raises YAMLError, and others of PyYAML's for a wrong value under a tag.

    Refuses references to other nodes, which a configuration has none of: a few lines of them grow without bound. And
    depth, of which libyaml has the stack overflow.
    """
    depth = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("a reference to another node")
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"more than {_DEEPEST} sections in each other")
    return yaml.load(text, _LOADER)


def read_config(path: Path) -> dict[str, Any]:
    """Return config.yaml: the sections of CONFIG. Raises DamagedFileError where there is none, too.

    Nothing in it is looked up elsewhere: a folder may be a stranger's, and ${oc.env:...} would read the reader's
    environment.
    """
    content = _read_bytes(path)
    if content is None:
        raise DamagedFileError(f"{path.name} is missing")
    try:
        text = content.decode()
        config = _plain_yaml(text)
    except Exception as error:  # of a wrong value under a tag, PyYAML raises any
        problem = getattr(error, "problem", None) or first_line(error)
        raise DamagedFileError(f"{path.name} is damaged: it is no YAML of a run ({problem})") from None
    if "${" in text:
        raise DamagedFileError(f"{path.name} is damaged: it holds ${{...}}, where a run has written values")
    if not isinstance(config, dict):
        raise DamagedFileError(f"{path.name} is damaged: it is {_shown(config)}")
    _check(path, config, CONFIG)
    for section in ("model", "norm", "data", "optim", "experiment", "profile"):
        _check(path, config[section], {"name": str}, f"{section}.")
    return config


# --- The forms --------------------------------------------------------------------------------------------------------


def _read_bytes(path: Path) -> bytes | None:
    """Return the content of a file, None where there is none. Raises DamagedFileError where it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFileError(f"{path.name} cannot be read ({error.strerror})") from None


def _read_json(path: Path) -> dict | None:
    """Return a JSON object. Raises DamagedFileError for anything else."""
    content = _read_bytes(path)
    if content is None:
        return None
    try:
        return _parse(content)
    except ValueError as error:
        raise DamagedFileError(f"{path.name} is damaged: {error}") from None


def _parse(content: bytes) -> dict:
    """Return a JSON object. Raises ValueError, with the reason, for anything else."""
    try:
        parsed = json.loads(content.decode())
    except (ValueError, RecursionError):  # json's and Unicode's own are ValueErrors
        raise ValueError("it is empty" if not content.strip() else "it is no JSON") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"it is {_shown(parsed)}, no object")
    return parsed


def _check(path: Path, content: dict, form: Form, section: str = "", finite: bool = True) -> None:
    """Check that every name of the form is there, with a value of its type. Raises DamagedFileError."""
    for name, kind in form.items():
        if name not in content:
            raise DamagedFileError(f"{path.name} is damaged: {section}{name} is missing")
        value = content[name]
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if isinstance(value, int):
            right &= abs(value) < 2**63
        elif isinstance(value, float):
            right &= math.isfinite(value) or not finite
        if not right:
            raise DamagedFileError(f"{path.name} is damaged: {section}{name} is {_shown(value)}")


def _shown(value: Any) -> str:
    """Return a value on one line, shortened."""
    text = " ".join(str(value).split())
    return f"{text[:37]}..." if len(text) > 40 else repr(text) if isinstance(value, str) else text
