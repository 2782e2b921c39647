"""Batch normalisation's statistics for evaluation: means over training batches, with training itself undisturbed."""

import pytest
import torch

import data
from experiments.config.schema import settings
from experiments.runs.folder import RunFolder
from experiments.runs.run import Run
from experiments.training.model import build_model
from experiments.training.population import estimate_statistics
from experiments.training.tasks import make_task
from models.norms import BatchNorm
from tests.helpers.configs import composed, trained

STEP, BATCHES = 7, 4
NETWORKS = {
    "mlp": ["model=mlp", "model.hidden_sizes=[32,32]", "data=digits"],
    "cnn": ["model=cnn", "model.width=8", "data=digits"],
    "lstm": ["model=lstm", "model.hidden_size=16", "model.dropout=0.5", "data=python_docs", "data.seq_len=6"],
    "reference": [
        "model=lstm",
        "model.hidden_size=16",
        "model.backend=reference",
        "data=python_docs",
        "data.seq_len=6",
    ],
}


def network(name: str):
    cfg = composed(*NETWORKS[name], "norm=bn", "data.batch_size=16")
    run = Run.of(cfg)
    task = make_task(data.load(settings(cfg.data)), settings(cfg.data), cfg.seed, "cpu")
    torch.manual_seed(0)
    return build_model(run, task.input_shape, task.num_classes), task


def layers(model) -> list[BatchNorm]:
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


def statistics_of(model, task, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mean and unbiased variance of one batch in every layer: running averages of momentum 1 that started anew."""
    for module in layers(model):
        module.train()
        module.momentum = 1.0
    task.loss(model, task.batch(step))
    return [(module.running_mean.clone(), module.running_var.clone()) for module in layers(model)]


@pytest.mark.parametrize("name", NETWORKS)
def test_statistics_are_the_means_over_the_last_batches(name):
    model, task = network(name)
    model.eval()  # so that dropout draws nothing
    with torch.no_grad():
        each = [statistics_of(model, task, step) for step in range(STEP - BATCHES, STEP)]
    for module in layers(model):
        module.momentum = 0.1

    state = torch.get_rng_state()
    estimate_statistics(model, task, STEP, BATCHES)
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training and not any(module.training for module in model.modules())
    for index, module in enumerate(layers(model)):
        assert module.momentum == 0.1
        for kind, estimated in enumerate((module.running_mean, module.running_var)):
            expected = torch.stack([statistics[index][kind] for statistics in each]).mean(0)
            torch.testing.assert_close(estimated, expected, rtol=1e-4, atol=1e-5)


def test_a_run_with_fewer_steps_takes_those_there_are():
    model, task = network("mlp")
    with torch.no_grad():
        expected = statistics_of(model, task, 0)
    estimate_statistics(model, task, 1, 100)
    for module, (mean, var) in zip(layers(model), expected, strict=True):
        assert torch.equal(module.running_mean, mean) and torch.equal(module.running_var, var)


@pytest.mark.parametrize("name", ["cnn", "lstm"])
def test_training_is_the_same_and_evaluation_is_not(name, tmp_path):
    def rows(batches: int) -> list[dict]:
        given = [*NETWORKS[name], "norm=bn", "trainer.steps=6", "trainer.evaluations=3", "trainer.log_every=1"]
        outcome = trained(
            *given, f"trainer.population_batches={batches}", "wandb.mode=disabled", f"runs_dir={tmp_path}"
        )
        return RunFolder(tmp_path, outcome["run_id"]).metrics()

    anew, running = rows(3), rows(0)
    assert [row["train/loss"] for row in anew] == [row["train/loss"] for row in running]
    assert anew[-1]["val/loss"] != running[-1]["val/loss"]
