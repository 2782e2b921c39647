"""One run from its command or configuration to its folder: its files, its repetition, its mirror, every data set."""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest

from experiments.runs.environment import environment
from experiments.runs.folder import RunFolder
from experiments.runs.run import Run
from experiments.training.recorder import FolderRecorder
from experiments.training.run import train_run
from tests.helpers.commands import ROOT
from tests.helpers.configs import composed, trained
from tests.helpers.processes import TINY, only


def test_one_run_then_the_same_command_says_done(cli, tmp_path):
    first = cli("train", "model=lstm", "norm=ln", "data=python_docs", "trainer.steps=20", *TINY)
    assert first.returncode == 0, first.stderr
    folder = only(tmp_path / "runs")
    assert str(folder.path) in first.stdout
    assert {path.name for path in folder.path.iterdir()} == {
        *(
            "config.yaml",
            "environment.json",
            "metrics.jsonl",
            "summary.json",
            "status.json",
            "last.pt",
            "lock",
            "wandb",
        ),
    }
    rows = folder.metrics()
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert [row["step"] for row in rows if "val/loss" in row] == [10, 20]
    assert all(
        {"examples", "seconds", "train/loss", "train/bpc", "train/lr", "train/grad_norm"} <= set(row) for row in rows
    )
    assert rows[-1]["train/bpc"] == pytest.approx(rows[-1]["train/loss"] / math.log(2))
    assert folder.summary["test/loss"] > 0 and folder.summary["steps"] == 20
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["data"]["name"] == "python_docs" and environment["data"]["sources"][0]["sha256"]

    before = (folder.path / "metrics.jsonl").read_bytes()
    second = cli("train", "model=lstm", "norm=ln", "data=python_docs", "trainer.steps=20", *TINY)
    assert second.returncode == 0 and "already done" in second.stdout
    assert (folder.path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_mirror_that_breaks_does_not_touch_the_run(broken, tmp_path, monkeypatch):
    """No real fault can be timed to hit each of the three calls, so each is made to raise."""
    import wandb

    def fail(*_, **__):
        raise OSError("no space left on device")

    owner = wandb if broken == "init" else wandb.sdk.wandb_run.Run
    monkeypatch.setattr(owner, broken, fail)
    outcome = trained("model=rnn", "norm=ln", "trainer.steps=5", *TINY, f"runs_dir={tmp_path}")
    folder = RunFolder(tmp_path, outcome["run_id"])
    assert outcome["status"] == folder.status["status"] == folder.summary["status"] == "done"
    assert len(folder.metrics()) == 2


TEXT = ["model.hidden_size=16", "model.embedding_size=16", "data.val_symbols=10000"]


@pytest.mark.skipif("LAYERNORM_DATA" not in os.environ, reason="LAYERNORM_DATA does not name the data sets")
@pytest.mark.parametrize(
    "arguments",
    [
        ["data=ptb_char", "model=lstm", *TEXT],
        ["data=ptb_word", "model=lstm", "model.input=embedding", *TEXT],
        ["data=wikitext2", "model=gru", "model.input=embedding", *TEXT],
        ["data=tinyshakespeare", "model=rnn", *TEXT],
        ["data=mnist", "model=mlp"],
        ["data=cifar10", "model=cnn"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_real_data_sets_train(arguments, tmp_path):
    outcome = trained(
        *(*arguments, "trainer.steps=3", "trainer.evaluations=1", "stage=tune"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    assert outcome["status"] == "done", outcome
    assert math.isfinite(RunFolder(tmp_path, outcome["run_id"]).summary["val/loss"])


def test_a_resumed_run_names_every_process_that_trained_it_and_adds_their_time(tmp_path, monkeypatch):
    """As after a commit, or on another machine; a process that is like the one before is not named twice."""
    task = ["model=mlp", "model.hidden_sizes=[4]", "data=digits", "trainer.steps=8", "trainer.checkpoint_every=0"]
    cfg = composed(*task, "trainer.evaluations=4", "wandb.mode=disabled", f"runs_dir={tmp_path}")
    save, stop_after = FolderRecorder.save, []

    def save_and_stop(self, model, optimizer, state):
        save(self, model, optimizer, state)
        if state["step"] in stop_after:
            self.started -= 100  # seconds
            save(self, model, optimizer, state)
            raise RuntimeError("killed")

    monkeypatch.setattr(FolderRecorder, "save", save_and_stop)
    for commit, step in (("a", 2), ("a", 4), ("b", 6), ("c", None)):
        stop_after[:] = [step]
        origin = {**environment(), "git": commit, "dirty": commit == "b", "torch": f"torch {commit}"}
        monkeypatch.setattr("experiments.training.run.environment", lambda origin=origin: origin)
        outcome = train_run(Run.of(cfg))
        assert outcome["status"] == ("failed" if step else "done"), outcome
    folder = RunFolder(tmp_path, outcome["run_id"])
    summary, recorded = folder.summary, json.loads((folder.path / "environment.json").read_text())
    assert (summary["git"], summary["dirty"], summary["torch"]) == ("a, b, c", True, "torch a, torch b, torch c")
    assert 300 < summary["wall_seconds"] < 400
    assert recorded["git"] == "c" and [process["git"] for process in recorded["earlier"]] == ["a", "b"]


def test_the_commit_is_this_projects_or_none(tmp_path):
    """An archive of it that is unpacked inside another repository has no commit of its own."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    code = "from experiments.runs.environment import environment; print(environment()['git'], environment()['dirty'])"
    for folder, commit in ((tmp_path / "unpacked", "unknown False"), (ROOT, None)):
        if commit is not None:
            shutil.copytree(ROOT / "experiments", folder / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
        options = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(folder)}}
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options)
        own = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        assert printed.stdout.startswith(commit or own or "unknown"), printed.stdout
