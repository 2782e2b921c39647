"""plan=true: how long runs will take, learnt from those that are finished."""

from collections import Counter

import pytest
from omegaconf import OmegaConf

from experiments.config.schema import Trainer
from experiments.runs.run import Run
from experiments.sweeps.plan import FinishedRuns, estimates, makespan, sums
from tests.helpers.configs import composed
from tests.helpers.processes import QUIET, finish, folders, train

RNN = ["model=rnn", "data=python_docs", "model.hidden_size=16", "data.seq_len=16", "trainer.evaluations=1", *QUIET]


def row(norm="ln", batch_size=32, per_step=0.01, rest=1.0, steps=100, **more) -> dict:
    common = {"experiment": "e", "profile": "quick", "stage": "final", "model": "lstm", "data": "python_docs"}
    took = {"seconds": per_step * steps, "wall_seconds": per_step * steps + rest}
    size = {"steps": steps, "examples": steps * batch_size, "epochs": steps * batch_size / 6400}
    return common | {"norm": norm, "batch_size": batch_size, "status": "done"} | took | size | more


def estimate(rows: list[dict], trainer: Trainer, **run):
    cell = ("experiment", "profile", "stage", "data", "model", "norm", "batch_size")
    return FinishedRuns(rows, source="").estimate({name: row(**run)[name] for name in cell}, trainer)


def test_the_same_cell_comes_first_and_training_time_grows_with_the_steps():
    rows = [row(per_step=0.01), row(per_step=0.02), row(per_step=0.5), row(norm="none", per_step=9.0)]
    estimated = estimate(rows, Trainer(steps=300))
    assert estimated.source == "same cell" and estimated.seconds == pytest.approx(0.02 * 300 + 1.0)
    assert estimate(rows, Trainer(examples=3200)).seconds == pytest.approx(0.02 * 100 + 1.0)
    assert estimate(rows, Trainer(epochs=2)).seconds == pytest.approx(0.02 * 2 * 6400 / 32 + 1.0)


def test_else_the_nearest_batch_size_of_model_and_data_and_there_the_same_normaliser():
    rows = [row(batch_size=4, per_step=0.001), row(norm="none", batch_size=64, per_step=0.03)]
    estimated = estimate(rows, Trainer(steps=100))
    assert estimated.source == "similar" and estimated.seconds == pytest.approx(0.03 * 100 + 1.0)
    rows.append(row(batch_size=64, per_step=0.04))
    assert estimate(rows, Trainer(steps=100)).seconds == pytest.approx(0.04 * 100 + 1.0)
    rows.append(row(experiment="other", batch_size=32, per_step=9.0))
    assert estimate(rows, Trainer(steps=100)).seconds == pytest.approx(0.04 * 100 + 1.0)


def test_other_data_other_models_and_diverged_runs_give_no_estimate():
    diverged = row() | {"status": "diverged", "seconds": "", "steps": ""}  # as a table of rows has it
    rows = [row(data="ptb_char"), row(model="gru"), diverged]
    assert estimate(rows, Trainer(steps=100)) is None


def test_a_resumed_run_that_knows_less_than_its_training_time():
    assert estimate([row(rest=-0.5)], Trainer(steps=100)).seconds == pytest.approx(1.0)


def test_workers_take_the_runs_in_turn():
    assert makespan([3.0, 1.0, 1.0, 1.0], workers=1) == 6.0
    assert makespan([3.0, 1.0, 1.0, 1.0], workers=2) == 3.0
    assert makespan([1.0, 1.0, 4.0], workers=2) == 5.0
    assert makespan([], workers=2) == 0.0


def test_the_plan_shows_state_time_and_source_of_every_run(tmp_path):
    assert train(tmp_path, *RNN, "norm=none", "trainer.steps=20").returncode == 0
    (done,) = folders(tmp_path)
    grid = ["norm=none,ln", "seed=0,1", "trainer.steps=20", "hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]
    result = train(tmp_path, *RNN, *grid, "plan=true")
    assert result.returncode == 0, result.stderr
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["state", "seconds", "learnt", "from", "run"]
    table = {line.split()[-1]: line.split()[:-1] for line in lines[:4]}
    assert table.pop(done.run_id) == ["done", f"{done.summary['wall_seconds']:.1f}"]
    sources = {run.split("-")[2] + run.split("-")[-2]: columns for run, columns in table.items()}
    assert sources["nones1"][:1] + sources["nones1"][2:] == ["new", "same", "cell"]
    assert sources["lns0"][2:] == sources["lns1"][2:] == ["similar"]
    assert float(sources["nones1"][1].removeprefix("~")) == pytest.approx(done.summary["wall_seconds"], abs=0.06)
    assert lines[4].startswith("4 runs, 1 done; about ") and lines[4].endswith(" left, 3 at a time")
    assert lines[5] == "learnt from: similar (2), same cell (1)"
    assert [folder.run_id for folder in folders(tmp_path)] == [done.run_id]


@pytest.mark.parametrize("plan", ["plan=true", "plan=True"])
def test_plan_prints_the_runs_and_starts_none(plan, cli, tmp_path):
    result = cli("train", "experiment=conv_gain", plan, "norm=none,ln", "optim.lr=0.1", "seed=0,1")
    assert result.returncode == 0, result.stderr
    assert "4 runs, 0 done" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_without_local_runs_the_committed_rows_give_the_estimate(tmp_path):
    result = train(tmp_path / "none", "experiment=conv_gain", "norm=ln", "seed=20", "plan=true")
    assert result.returncode == 0, result.stderr
    assert "learnt from: reference, same cell (" in result.stdout
    assert "reference: results/reference/quick/runs.csv, of another machine" in result.stdout
    assert not (tmp_path / "none").exists()


def test_a_run_like_none_before_has_no_time(tmp_path):
    result = train(tmp_path, "model=image_rnn", "data=digits", "norm=ln", "plan=true")
    assert result.returncode == 0 and "nothing" in result.stdout
    assert "1 runs, 0 done; time left unknown, one at a time" in result.stdout


def test_the_sums_of_a_plan():
    assert sums(3, [], Counter(), 1, "quick") == "3 runs, 3 done"
    lines = sums(4, [60.0, 30.0], Counter({"same cell": 2, "nothing": 1}), 2, "quick").splitlines()
    assert lines == ["4 runs, 1 done; about 1 min 00 s left, 2 at a time", "learnt from: same cell (2), nothing (1)"]


def test_all_rows_are_looked_through_once_for_a_cell_and_not_for_each_of_its_runs(tmp_path, monkeypatch):
    """Ten thousand seeds beside ten thousand finished runs would be a hundred million comparisons."""
    asked, estimate_one = [], FinishedRuns.estimate

    def count(self, columns, trainer):
        asked.append((columns["norm"], trainer.steps))
        return estimate_one(self, columns, trainer)

    monkeypatch.setattr(FinishedRuns, "estimate", count)
    cfg = composed("model=mlp", "data=digits", "norm=ln", "trainer.steps=30", f"runs_dir={tmp_path}")
    runs = [Run.of(OmegaConf.merge(cfg, {"seed": seed})) for seed in range(5)]
    runs.append(Run.of(OmegaConf.merge(cfg, {"trainer": {"steps": 60}})))
    finish(runs[0].folder, data="digits", model="mlp", norm="ln", batch_size=cfg.data.batch_size)
    found = estimates(runs)
    assert asked == [("ln", 30), ("ln", 60)]
    assert found[0] is None and found[1] == found[4] and found[1].seconds < found[5].seconds
