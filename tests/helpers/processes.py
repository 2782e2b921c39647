"""Real training processes for the tests: start, watch, kill, and compare what they leave."""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from experiments.runs.folder import RunFolder
from tests.conftest import ROOT

QUIET = ["wandb.mode=disabled"]


def command(runs_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *arguments, f"runs_dir={runs_dir}"]


def train(runs_dir: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    """The command to its end, with its output."""
    return subprocess.run(
        command(runs_dir, *arguments),
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300, "stdin": subprocess.DEVNULL, **options},
    )


def start(runs_dir: Path, *arguments: str, **options) -> subprocess.Popen:
    """The command in the background, in a group of its own; its output is thrown away unless `options` say more."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        command(runs_dir, *arguments), **{"cwd": ROOT, "process_group": 0, "text": True, **quiet, **options}
    )


def wait_for(condition, process: subprocess.Popen | None = None, seconds: float = 120.0):
    """What `condition()` returns once that is true. Fails when the process ends before, or the time is up."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, f"the process ended with {process.returncode}"
        time.sleep(0.01)
    return found


def folders(runs_dir: Path) -> list[RunFolder]:
    return [RunFolder(runs_dir, path.name) for path in sorted(runs_dir.glob("[!.]*/"))] if runs_dir.exists() else []


def only(runs_dir: Path) -> RunFolder:
    (folder,) = folders(runs_dir)
    return folder


def rows(folder: RunFolder) -> list[dict]:
    """The rows without what the clock decides."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in folder.metrics()]


def same(a, b) -> bool:
    """Equal to the last bit, all the way down; times left out."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
