"""How learning rates are chosen, and that the committed ones are what the committed rows choose."""

import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config import cell as cells
from experiments.config.errors import ConfigError
from experiments.config.experiment import Experiment
from experiments.config.paths import CONFIGS, REFERENCE
from experiments.config.schema import settings
from experiments.judging.power import pairs_needed
from experiments.judging.tuning import all_diverged, at_chosen_rates, choose, tuning_metric, write_chosen_rates
from experiments.runs.identity import run_id
from experiments.runs.rows import cell_columns, collect, read_rows, with_known_rows
from experiments.runs.run import Run
from experiments.sweeps.grid import base, expand
from experiments.training.run import train_run

TUNED = sorted((CONFIGS / "experiment").glob("*/tuned/*.yaml"))
CELL = ["model", "norm", "batch_size"]


def experiment_of(path: Path) -> str:
    """The experiment whose rates are in configs/experiment/<name>/tuned/<profile>.yaml."""
    return path.parents[1].name


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
    assert choose(table, CELL, "val/error")["chosen"].tolist() == [0.3]


def test_a_rate_at_which_a_seed_diverged_is_out():
    table = rows(lr_0_1=[20.0, 30.0], lr_0_3=[1.0, float("inf")])
    assert choose(table, CELL, "val/error")["chosen"].tolist() == [0.1]


def test_a_cell_that_diverges_at_every_rate_has_none(tmp_path):
    table = rows(lr_0_1=[float("inf")], lr_0_00001=[float("inf"), 1.0]).assign(git="0" * 40, dirty=False)
    other = rows(lr_0_00001=[3.0], lr_0_1=[4.0]).assign(norm="bn", git="0" * 40, dirty=False)
    both = pd.concat([table, other])
    means = choose(both, CELL, "val/error")
    assert all_diverged(means) == ["cnn/ln/b8"]
    write_chosen_rates(tmp_path / "quick.yaml", both, means, "python -m ...", {})
    assert yaml.safe_load((tmp_path / "quick.yaml").read_text()) == {"cnn/bn/b8": 1e-5}


def test_a_metric_that_no_run_has_chooses_nothing():
    with pytest.raises(ConfigError, match="no tuning run has val/bpc"):
        choose(rows(lr_0_1=[1.0]), CELL, "val/bpc")


@pytest.mark.parametrize("path", TUNED, ids=lambda path: f"{path.stem}-{experiment_of(path)}")
def test_the_committed_rates_are_what_the_committed_rows_choose(path, tmp_path):
    """The whole file, with the pairs that the claims need: a claim that is added to a rule changes it."""
    rule = base(experiment_of(path), path.stem).experiment
    table = read_rows(path.with_suffix(".csv"), rule.axes)
    means = choose(table, cell_columns(rule.axes), tuning_metric(rule))
    command = f"python -m experiments.tune experiment={experiment_of(path)} profile={path.stem}"
    needed = pairs_needed(settings(rule), at_chosen_rates(table, means))
    write_chosen_rates(tmp_path / path.name, table, means, command, needed)
    for written in tmp_path.iterdir():
        assert written.read_text() == (path.parent / written.name).read_text()
    assert set(table["lr"]) == set(rule.tune_lr) and set(table["seed"]) == set(rule.tune_seeds)
    assert (table["stage"] == "tune").all() and not [column for column in table if column.startswith("test/")]
    assert not table["dirty"].any()


COMMITTED = [folder for folder in ("quick", "standard") if (REFERENCE / folder / "runs.csv").exists()]


@pytest.mark.parametrize("profile", COMMITTED)
def test_every_experiment_that_tunes_and_has_rows_has_its_rates(profile):
    rows = pd.read_csv(REFERENCE / profile / "runs.csv", low_memory=False)
    tuning = {name for name in set(rows["experiment"]) if base(name, profile).experiment.tune_lr}
    assert tuning
    assert tuning <= {experiment_of(path) for path in TUNED if path.stem == profile}


def test_a_file_of_rates_is_read_once_and_once_more_when_it_has_changed(tmp_path, monkeypatch):
    path, reads, read = tmp_path / "rates.yaml", [], yaml.safe_load
    monkeypatch.setattr(cells, "tuned_path", lambda profile, experiment: path)
    monkeypatch.setattr(cells.yaml, "safe_load", lambda text: reads.append(text) or read(text))
    [cfg] = expand("conv_gain", "quick", ["norm=ln", "seed=10"])
    reads.clear()
    for rate, changed in ((0.1, 1), (0.2, 2)):
        path.write_text(f"cnn/ln/b128: {rate}\n")
        os.utime(path, (changed, changed))
        assert cfg.optim.lr == cfg.optim.lr == rate
    assert len(reads) == 2


def test_a_rate_is_not_chosen_by_the_test_split():
    with pytest.raises(ConfigError, match="tuning sees val/"):
        tuning_metric(Experiment(tune_metric="test/error"))
    assert tuning_metric(Experiment(metric="test/bpc")) == "val/bpc"


def test_rows_are_of_exactly_the_runs_that_were_asked_for(tmp_path):
    small = ["trainer.epochs=1", "trainer.evaluations=1", "wandb.mode=disabled", f"runs_dir={tmp_path}"]
    small += ["model=cnn", "norm=bn,ln", "optim.lr=0.05"]
    configs = expand("conv_gain", "quick", [*small, "seed=10", "stage=tune"])
    other = expand("conv_gain", "quick", [*small, "seed=10", "stage=tune", "model.width=8"])
    assert train_run(Run.of(configs[0]))["status"] == train_run(Run.of(other[1]))["status"] == "done"
    table, curves, missing = collect(map(run_id, configs), tmp_path)
    assert table["norm"].tolist() == ["bn"] and len(missing) == 1 and "-ln-" in missing[0]
    assert set(curves["run_id"]) == set(table["run_id"])
    assert OmegaConf.select(configs[0], "stage") == "tune" and "test/loss" not in table

    ids = [run_id(cfg) for cfg in configs]
    known = {name: {"run_id": name, "norm": "ln", "val/error": "1e-05", "groups": "4"} for name in ids}
    of_both = with_known_rows(table, known, ids, ["groups"])
    assert of_both["norm"].tolist() == ["bn", "ln"] and of_both["groups"].tolist() == ["", "4"]
    assert of_both["val/error"].tolist() == [table["val/error"][0], 1e-05]
    assert with_known_rows(table.iloc[:0], {ids[1]: known[ids[1]]}, ids, [])["run_id"].tolist() == ids[1:]
