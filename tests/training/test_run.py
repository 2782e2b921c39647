"""One run from its command or configuration to its folder: its files, its repetition, its mirror, every data set."""

import json
import math
import os

import pytest

from experiments.runs.folder import RunFolder
from tests.helpers.configs import trained
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


@pytest.mark.skipif("LAYERNORM_DATA" not in os.environ, reason="LAYERNORM_DATA does not name the data sets")
@pytest.mark.parametrize(
    "arguments",
    [
        ["data=ptb_char", "model=lstm"],
        ["data=ptb_word", "model=lstm", "model.input=embedding"],
        ["data=wikitext2", "model=gru", "model.input=embedding", "data.eval_batch_size=64"],
        ["data=tinyshakespeare", "model=rnn"],
        ["data=mnist", "model=mlp"],
        ["data=cifar10", "model=cnn"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_real_data_sets_train(arguments, tmp_path):
    small = (
        ["model.hidden_size=16", "model.embedding_size=16"]
        if "mlp" not in arguments[1] and "cnn" not in arguments[1]
        else []
    )
    outcome = trained(
        *(*arguments, *small, "trainer.steps=3", "trainer.evaluations=1", "stage=tune"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    assert outcome["status"] == "done", outcome
    assert math.isfinite(RunFolder(tmp_path, outcome["run_id"]).summary["val/loss"])
