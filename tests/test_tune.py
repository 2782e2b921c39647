"""How learning rates are chosen, and that the committed ones are what the committed rows choose."""

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config import ROOT
from experiments.grid import base, expand
from experiments.run import run
from experiments.table import collect
from experiments.tune import choose, validation_twin

EXPERIMENTS = ["recurrent_gain", "conv_gain", "batch_size"]


def rows(**losses: list[float]) -> pd.DataFrame:
    """rows(lr_0.1=[loss of each seed], ...); inf is a diverged run."""
    lines = []
    for key, values in losses.items():
        for seed, loss in enumerate(values):
            status = "diverged" if loss == float("inf") else "done"
            cell = {"model": "cnn", "norm": "ln", "batch_size": 8, "lr": float(key[3:].replace("_", "."))}
            lines.append({**cell, "seed": seed, "status": status, "val/error": None if status == "diverged" else loss})
    return pd.DataFrame(lines)


def test_the_lowest_mean_over_the_seeds_is_chosen():
    table = rows(lr_0_1=[10.0, 30.0], lr_0_3=[15.0, 16.0], lr_1_0=[40.0, 50.0])
    assert choose(table, "val/error")["chosen"].tolist() == [0.3]


def test_a_rate_at_which_a_seed_diverged_is_out():
    table = rows(lr_0_1=[20.0, 30.0], lr_0_3=[1.0, float("inf")])
    assert choose(table, "val/error")["chosen"].tolist() == [0.1]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_committed_rates_are_what_the_committed_rows_choose(experiment):
    rule = base(experiment, "quick").experiment
    path = ROOT / "configs" / "tuned" / "quick" / experiment
    committed, table = yaml.safe_load(path.with_suffix(".yaml").read_text()), pd.read_csv(path.with_suffix(".csv"))
    chosen = choose(table, validation_twin(rule.metric))["chosen"]
    assert committed == {f"{model}/{norm}/b{batch}": rate for (model, norm, batch), rate in chosen.items()}
    assert all(min(rule.tune_lr) < rate < max(rule.tune_lr) for rate in chosen), "an optimum at the end of the grid"
    assert set(table["lr"]) == set(rule.tune_lr) and set(table["seed"]) == set(rule.tune_seeds)
    assert (table["stage"] == "tune").all() and not [column for column in table if column.startswith("test/")]
    assert not table["dirty"].any()


def test_rows_are_of_exactly_the_runs_that_were_asked_for(tmp_path):
    small = ["trainer.epochs=1", "trainer.evaluations=1", "wandb.mode=disabled", f"runs_dir={tmp_path}", "norm=ln,bn"]
    configs = expand("conv_gain", "quick", [*small, "seed=10", "stage=tune"])
    other = expand("conv_gain", "quick", [*small, "seed=10", "stage=tune", "model.width=8"])
    assert run(configs[0])["status"] == run(other[1])["status"] == "done"
    table, curves, missing = collect(configs, tmp_path)
    assert table["norm"].tolist() == ["ln"] and len(missing) == 1 and "-bn-" in missing[0]
    assert set(curves["run_id"]) == set(table["run_id"])
    assert OmegaConf.select(configs[0], "stage") == "tune" and "test/loss" not in table
