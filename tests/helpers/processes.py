"""Real training processes for the tests: start, watch, kill them, and compare the folders that they leave."""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from experiments.runs.folder import RunFolder, RunStatus, write_json
from tests.helpers import commands
from tests.helpers.commands import ROOT, run

QUIET = ["wandb.mode=disabled"]
MLP = [
    "model=mlp",
    "model.hidden_sizes=[64]",
    "data=digits",
    "trainer.log_every=5",
    "trainer.evaluations=2",
    *QUIET,
]  # fractions of a second
TINY = ["model.hidden_size=16", "data.seq_len=16", "data.batch_size=8", "trainer.evaluations=2", "trainer.log_every=5"]
OFTEN = [*QUIET, "trainer.log_every=5", "trainer.evaluations=3", "trainer.checkpoint_every=0.02"]
TASKS = {  # a run of each family of networks, of about a second, with everything that a checkpoint has to hold
    "LSTM, dropout": [
        *("model=lstm", "norm=bn", "model.dropout=0.3", "model.hidden_size=16"),
        *("data=python_docs", "data.seq_len=16", "data.batch_size=8", "trainer.steps=400"),
    ],
    "feed-forward": [
        *("model=mlp", "model.hidden_sizes=[64]", "norm=wn", "norm.data_init=true"),
        *("data=digits", "data.batch_size=32", "trainer.steps=400"),
    ],
    "convolutional": [
        *("model=cnn", "norm=bn", "data=digits", "data.batch_size=16", "optim=sgd", "trainer.steps=180"),
    ],
    "skip-thoughts": [
        *("model=skip_thoughts", "model.hidden_size=8", "model.embedding_size=5", "norm=bn"),
        *("data=python_docs_sentences", "data.words=200", "data.batch_size=4", "trainer.population_batches=5"),
        "trainer.steps=120",
    ],
}


def command(runs_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *arguments, f"runs_dir={runs_dir}"]


def train(runs_dir: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    """Run the command to its end; return it with its output. With options, those of subprocess.run."""
    if not options:
        return run("experiments.train", *arguments, f"runs_dir={runs_dir}")
    return subprocess.run(
        command(runs_dir, *arguments),
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300, "stdin": subprocess.DEVNULL, **options},
    )


def start(runs_dir: Path, *arguments: str) -> subprocess.Popen | commands.Forked:
    """Start the command in the background, in a process group of its own; `communicate` has its output."""
    if not commands.starts_workers(arguments):
        return commands.start("experiments.train", *arguments, f"runs_dir={runs_dir}")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(runs_dir, *arguments), cwd=ROOT, process_group=0, text=True, **pipes)


def wait_for(condition, process=None, seconds: float = 200.0):
    """Wait until `condition()` is true and return its value. Fails when the process ends before, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        if process is not None and process.poll() is not None:
            errors = process.stderr.read() if process.stderr else ""
            raise AssertionError(f"the process ended with {process.returncode} {errors}")
        time.sleep(0.01)
    return value


def folders(runs_dir: Path) -> list[RunFolder]:
    return [RunFolder(runs_dir, path.name) for path in sorted(runs_dir.glob("[!.]*/"))] if runs_dir.exists() else []


def only(runs_dir: Path) -> RunFolder:
    (folder,) = folders(runs_dir)
    return folder


def finish(folder: RunFolder, **columns) -> None:
    """Write the summary and the status of a run that is done, as if it had been trained."""
    texts = ("experiment", "profile", "stage", "data", "model", "norm", "git", "torch", "python")
    numbers = {"batch_size": 8, "lr": 0.1, "seed": 0, "wall_seconds": 1.0, "dirty": False}
    result = {"status": "done", "steps": 20, "examples": 160, "epochs": 1.0, "seconds": 0.5}
    summary = {"run_id": folder.run_id, **dict.fromkeys(texts, "made up"), **numbers, **result, **columns}
    with folder.lock():
        write_json(folder.path / "summary.json", summary)
        folder.set_status(RunStatus.DONE)


def rows(folder: RunFolder) -> list[dict]:
    """Return the rows without the times."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in folder.metrics()]


def same(a, b) -> bool:
    """Return whether two nested structures are equal to the last bit, but for times, their checksums and commits."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        other = ("seconds", "wall_seconds", "rows_sha256", "processes")
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key not in other)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_equal(folder: RunFolder, reference: RunFolder) -> None:
    """Rows, checkpoint and summary of two runs, but for the clock and the commit."""
    assert folder.run_id == reference.run_id
    assert rows(folder) == rows(reference), "metrics.jsonl"
    a, b = folder.load_checkpoint("cpu"), reference.load_checkpoint("cpu")
    assert same(a, b), "weights, optimiser, generators or the loop's state"
    skipped = ("seconds", "wall_seconds", "dirty", "git")
    left, right = ({k: v for k, v in f.summary.items() if k not in skipped} for f in (folder, reference))
    assert left == right, "summary.json"
