"""Runs and sweeps through the command line, and the loop's promises: resume, divergence, order of the data."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch

import data
from experiments.config.schema import SGD, Adam, settings
from experiments.runs.folder import RunFolder, write_json
from experiments.runs.identity import run_id
from experiments.sweeps import launch as sweep
from experiments.sweeps.grid import apart_from_seed
from experiments.training.loop import budget
from experiments.training.optimisation import learning_rate
from experiments.training.run import run
from experiments.training.tasks import LanguageModelling, make_task
from tests.helpers.compose import composed

TINY = ["model.hidden_size=16", "data.seq_len=16", "data.batch_size=8", "trainer.evaluations=2", "trainer.log_every=5"]


def only_folder(path) -> RunFolder:
    (folder,) = (path / "runs").iterdir()
    return RunFolder(folder.parent, folder.name)


def test_one_run_then_the_same_command_says_done(cli, tmp_path):
    first = cli("train", "model=lstm", "norm=ln", "data=python_docs", "trainer.steps=20", *TINY)
    assert first.returncode == 0, first.stderr
    folder = only_folder(tmp_path)
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


def wandb_records(folder: RunFolder) -> str:
    """What wandb's own reader prints of the run that lies in the folder."""
    (mirror,) = (folder.path / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(mirror)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_multirun_of_two_jobs_with_wandb_offline_runs(cli, tmp_path):
    arguments = ["-m", "model=rnn", "norm=none,ln", "data=python_docs", "trainer.steps=10", *TINY]
    result = cli("train", *arguments)
    assert result.returncode == 0, result.stderr
    assert "2 runs: 2 done, 0 skipped, 0 diverged, 0 failed" in result.stdout
    for path in (tmp_path / "runs").iterdir():
        text = wandb_records(RunFolder(path.parent, path.name))
        norm = path.name.split("-")[2]
        for expected in (
            path.name,
            '"train"',
            '"final"',
            "model:rnn",
            f"norm:{norm}",
            "val/loss",
            "examples",
            "seconds",
        ):
            assert expected in text, expected
    again = cli("train", *arguments)
    assert again.returncode == 0 and "2 runs: 0 done, 2 skipped, 0 diverged, 0 failed" in again.stdout


def test_sweep_with_joblib_runs_in_other_processes(cli, tmp_path):
    arguments = ["-m", "model=cnn,mlp", "norm=bn", "data=digits", "trainer.steps=4", "trainer.evaluations=1"]
    result = cli("train", *arguments, "hydra/launcher=joblib", "wandb.mode=disabled")
    assert result.returncode == 0, result.stderr
    assert "2 runs: 2 done" in result.stdout
    folders = [RunFolder(path.parent, path.name) for path in (tmp_path / "runs").iterdir()]
    assert all(folder.finished and not (folder.path / "wandb").exists() for folder in folders)


@pytest.mark.parametrize("plan", ["plan=true", "plan=True"])
def test_plan_prints_the_runs_and_starts_none(plan, cli, tmp_path):
    result = cli("train", "experiment=conv_gain", plan, "norm=none,ln", "optim.lr=0.1", "seed=0,1")
    assert result.returncode == 0, result.stderr
    assert "4 runs, 0 done" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_several_experiments_are_one_sweep_each_with_its_own_grid(cli):
    result = cli("train", "-m", "experiment=conv_gain,train_test", "plan=true", "norm=ln", "seed=20,21")
    assert result.returncode == 0, result.stderr
    names = [line.split()[-1] for line in result.stdout.splitlines() if "-s2" in line]
    assert len([name for name in names if name.startswith("conv_gain-cnn-ln")]) == 2
    assert len([name for name in names if name.startswith("train_test-")]) == len(names) - 2 > 2
    alone = cli("train", "experiment=train_test", "plan=true", "norm=ln", "seed=20,21")
    assert set(names[2:]) <= set(alone.stdout.split())


def test_of_runs_that_differ_in_their_seed_alone_one_is_checked_for_all(tmp_path, monkeypatch):
    cells = ["model=mlp", "norm=ln", "data=digits"], ["model=mlp", "norm=bn", "data=digits"]
    jobs = [[*cell, f"seed={seed}"] for cell in cells for seed in range(3)]
    configs = [composed(*job, f"runs_dir={tmp_path}") for job in jobs]
    checked = []
    monkeypatch.setattr(sweep, "check_build", lambda cfg: checked.append((cfg.norm.name, cfg.seed)))
    RunFolder(tmp_path, run_id(configs[0])).path.mkdir()
    write_json(tmp_path / run_id(configs[0]) / "status.json", {"status": "done"})
    write_json(tmp_path / run_id(configs[0]) / "summary.json", {})
    _, pending = sweep.select_pending(configs, [apart_from_seed(job) for job in jobs])
    assert pending == [1, 2, 3, 4, 5] and checked == [("ln", 1), ("bn", 0)]


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_mirror_that_breaks_does_not_touch_the_run(broken, tmp_path, monkeypatch):
    """No real fault can be timed to hit each of the three calls, so each is made to raise."""
    import wandb

    def fail(*_, **__):
        raise OSError("no space left on device")

    owner = wandb if broken == "init" else wandb.sdk.wandb_run.Run
    monkeypatch.setattr(owner, broken, fail)
    outcome = run(composed("model=rnn", "norm=ln", "trainer.steps=5", *TINY, f"runs_dir={tmp_path}"))
    folder = RunFolder(tmp_path, outcome["run_id"])
    assert outcome["status"] == folder.status["status"] == folder.summary["status"] == "done"
    assert len(folder.metrics()) == 2


def test_a_failing_run_leaves_the_others_done(cli, tmp_path):
    """One run's folder holds a directory where its configuration has to go, so it fails; the sweep goes on."""
    common = ["model=rnn", "data=python_docs", "trainer.steps=4", *TINY, "wandb.mode=disabled"]
    broken = tmp_path / "runs" / run_id(composed("norm=ln", *common))
    (broken / "config.yaml").mkdir(parents=True)
    result = cli("train", "-m", "norm=none,ln,gn", *common)
    assert result.returncode == 1
    assert "3 runs: 2 done, 0 skipped, 0 diverged, 1 failed" in result.stdout
    assert f"failed: {broken}" in result.stdout
    assert "Traceback" in (broken / "error.txt").read_text()
    assert "Traceback" not in result.stdout + result.stderr
    assert RunFolder(broken.parent, broken.name).status["status"] == "failed"


@pytest.mark.scorecard("R11", "a loss that is not finite ends as diverged, before the step, and is a result")
@pytest.mark.parametrize("model, content", [("rnn", "python_docs"), ("mlp", "digits"), ("cnn", "digits")])
def test_a_non_finite_loss_ends_as_diverged_before_the_step(model, content, tmp_path, record_property):
    cfg = composed(
        *(f"model={model}", f"data={content}", "norm=none", "optim=sgd", "optim.lr=1e38", "trainer.steps=50"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}", "trainer.log_every=1"),
    )
    outcome = run(cfg)
    folder = RunFolder(tmp_path, outcome["run_id"])
    assert outcome["status"] == folder.status["status"] == folder.summary["status"] == "diverged"
    assert folder.finished, "a diverged run is a result and is not repeated"
    assert len(folder.metrics()) == folder.summary["diverged_at"], "one row for every step that was applied"
    assert all(math.isfinite(row["train/loss"]) for row in folder.metrics())
    assert run(cfg)["status"] == "skipped"
    record_property("figure", f"diverged at step {folder.summary['diverged_at']}; its rows are finite; not run again")


def test_statistics_of_gradients_and_summed_inputs(tmp_path):
    cfg = composed(
        *("model=cnn", "norm=ln", "data=digits", "trainer.steps=2", "trainer.log_every=1", "trainer.statistics=true"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    row = RunFolder(tmp_path, run(cfg)["run_id"]).metrics()[0]
    assert row["out/convs.0.1/mean"] == pytest.approx(0, abs=1e-5)
    assert row["out/convs.0.1/std"] == pytest.approx(1, abs=1e-2)
    assert row["in/convs.0.1/std"] != pytest.approx(1, abs=1e-2)
    assert row["grad/output.weight"] > 0


def test_windows_predict_every_token_once_and_differ_by_epoch():
    text = data.Text(
        tokens={split: torch.arange(103) for split in ("train", "val", "test")},
        vocabulary=[str(i) for i in range(103)],
        unit="char",
        row_length=None,
        manifest={},
    )
    task = LanguageModelling(text, data.settings.TextData(name="x", unit="char", seq_len=10, batch_size=4), 0, "cpu")
    assert task.steps_per_epoch == 2  # (103 - 10) // 10 = 9 windows, the ninth is dropped
    first = [task.batch(step) for step in range(2)]
    for inputs, targets in first:
        assert torch.equal(targets, inputs + 1)
    starts = torch.cat([inputs[:, 0] for inputs, _ in first])
    assert len(set(starts.tolist())) == 8 and len({int(s) % 10 for s in starts}) == 1
    again = torch.cat([task.batch(step)[0][:, 0] for step in range(2)])
    other = torch.cat([task.batch(step)[0][:, 0] for step in range(2, 4)])
    assert torch.equal(starts, again) and not torch.equal(starts, other)

    seen = []

    class Oracle(torch.nn.Module):
        def forward(self, tokens):
            seen.extend((tokens + 1).flatten().tolist())
            return (20.0 * torch.nn.functional.one_hot(tokens + 1, 103),)

    assert task.evaluate(Oracle(), "val")["loss"] == pytest.approx(0, abs=1e-5)
    assert sorted(seen) == list(range(1, 103))


def test_the_order_of_the_data_is_the_same_for_every_norm():
    images = data.load(settings(composed("data=digits").data))
    tasks = [make_task(images, settings(composed("data=digits").data), seed, "cpu") for seed in (3, 3, 4)]
    batches = [[task.batch(step)[1] for step in range(task.steps_per_epoch)] for task in tasks]
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(batches[0], batches[2], strict=True))


def test_schedules():
    def rates(optim, steps=100, batch=32):
        return [learning_rate(optim, step, steps, batch) for step in range(steps)]

    assert rates(Adam(lr=0.1)) == [0.1] * 100
    cosine = rates(SGD(lr=0.1, schedule="cosine"))
    assert cosine[0] == 0.1 and cosine[50] == pytest.approx(0.05) and cosine[99] < 1e-4
    step = rates(SGD(lr=1.0, schedule="step"))
    assert [step[k] for k in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = rates(Adam(lr=1.0, warmup_steps=10))
    assert warm[:11] == pytest.approx([0.1 * (k + 1) for k in range(10)] + [1.0])
    assert rates(SGD(lr=0.1, schedule="constant", reference_batch=32), batch=128)[0] == pytest.approx(0.4)


def test_budgets():
    trainer = composed().trainer
    for given, steps in (("steps", 7), ("epochs", 7 * 50), ("examples", 7 // 4 or 1)):
        chosen = settings(trainer)
        setattr(chosen, given, 7)
        assert budget(chosen, steps_per_epoch=50, batch_size=4) == steps
    assert budget(settings(trainer), 50, 4) == 1000


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
    cfg = composed(
        *(*arguments, *small, "trainer.steps=3", "trainer.evaluations=1", "stage=tune"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    outcome = run(cfg)
    assert outcome["status"] == "done", outcome
    assert math.isfinite(RunFolder(tmp_path, outcome["run_id"]).summary["val/loss"])
