"""The loop's promises: its budget, divergence, the statistics that it logs. Resumption: tests/runs/test_faults.py."""

import math

import pytest

from experiments.config.schema import settings
from experiments.runs.folder import RunFolder
from experiments.runs.run import Run
from experiments.runs.schedule import budget
from experiments.training.run import train_run
from tests.helpers.configs import composed


def test_budgets():
    trainer = composed().trainer
    for name, steps in (("steps", 7), ("epochs", 7 * 50), ("examples", 7 // 4 or 1)):
        given = settings(trainer)
        setattr(given, name, 7)
        assert budget(given, steps_per_epoch=50, batch_size=4) == steps
    assert budget(settings(trainer), 50, 4) == 1000


@pytest.mark.scorecard("R11", "a loss that is not finite ends as diverged, before the step, and is a result")
@pytest.mark.parametrize("model, content", [("rnn", "python_docs"), ("mlp", "digits"), ("cnn", "digits")])
def test_a_non_finite_loss_ends_as_diverged_before_the_step(model, content, tmp_path, record_property):
    cfg = composed(
        *(f"model={model}", f"data={content}", "norm=none", "optim=sgd", "optim.lr=1e38", "trainer.steps=50"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}", "trainer.log_every=1"),
    )
    outcome = train_run(Run.of(cfg))
    folder = RunFolder(tmp_path, outcome["run_id"])
    assert outcome["status"] == folder.status["status"] == folder.summary["status"] == "diverged"
    assert folder.finished, "a diverged run is a result and is not repeated"
    assert len(folder.metrics()) == folder.summary["diverged_at"], "one row for every step that was applied"
    assert all(math.isfinite(row["train/loss"]) for row in folder.metrics())
    assert train_run(Run.of(cfg))["status"] == "skipped"
    record_property("figure", f"diverged at step {folder.summary['diverged_at']}; its rows are finite; not run again")


def test_statistics_of_gradients_and_summed_inputs(tmp_path):
    cfg = composed(
        *("model=cnn", "norm=ln", "data=digits", "trainer.steps=2", "trainer.log_every=1", "trainer.statistics=true"),
        *("wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    row = RunFolder(tmp_path, train_run(Run.of(cfg))["run_id"]).metrics()[0]
    assert row["out/convs.0.1/mean"] == pytest.approx(0, abs=1e-5)
    assert row["out/convs.0.1/std"] == pytest.approx(1, abs=1e-2)
    assert row["in/convs.0.1/std"] != pytest.approx(1, abs=1e-2)
    assert row["grad/output.weight"] > 0
