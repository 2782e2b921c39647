"""Rows that have been tampered with are recognised; the committed ones are consistent."""

import json

import pandas as pd
import pytest
import yaml

from experiments.config.cell import cell_key, slug
from experiments.config.errors import ConfigError
from experiments.config.experiment import Experiment
from experiments.config.paths import ROOT, tuned_path
from experiments.judging.integrity import problems
from experiments.runs.rows import cell_columns, read_rows
from experiments.sweeps.grid import base

COLUMNS = cell_columns(["groups"])
CELLS = [("cnn", "ln", 8, ""), ("cnn", "gn", 8, "4"), ("cnn", "gn", 8, "16")]
RULE = Experiment(
    name="e",
    metric="test/error",
    axes={"groups": "norm.groups"},
    final_seeds=[20, 21],
    tune_seeds=[0, 1],
    tune_lr=[0.1, 0.2, 0.4],
)


def table(stage: str, lrs: list[float], seeds: list[int], **metrics: float) -> pd.DataFrame:
    lines = []
    for cell in CELLS:
        for lr in lrs:
            for seed in seeds:
                columns = dict(zip(COLUMNS, cell, strict=True))
                name = slug(columns, "e", "digits", lr, seed)
                line = {**columns, "data": "digits", "lr": lr, "seed": seed, "run_id": f"{name}-0123abcd"}
                lines.append({**line, "stage": stage, "status": "done", **metrics, "val/error": 10 * abs(lr - 0.2)})
    return pd.DataFrame(lines)


@pytest.fixture
def tables(tmp_path):
    """(final rows, tuning rows, check): check() writes the tuning rows and their choice, and returns the problems."""
    final, tuning = table("final", [0.2], [20, 21], **{"test/error": 3.0}), table("tune", [0.1, 0.2, 0.4], [0, 1])
    chosen = {cell_key(dict(zip(COLUMNS, cell, strict=True))): 0.2 for cell in CELLS}

    def check(final=final, tuning=tuning, chosen=chosen) -> list[str]:
        (tmp_path / "e.yaml").write_text(yaml.safe_dump(chosen))
        tuning.to_csv(tmp_path / "e.csv", index=False)
        return problems(RULE, final, tmp_path / "e.yaml")

    return final, tuning, check


def test_whole_rows_have_no_problem(tables):
    *_, check = tables
    assert check() == []


def test_rates_without_the_rows_that_chose_them(tables, tmp_path):
    final, _, check = tables
    check()
    (tmp_path / "e.csv").unlink()
    assert problems(RULE, final, tmp_path / "e.yaml") == [
        "tuned/e.csv is not there, whose rows chose the learning rates"
    ]
    check()
    (tmp_path / "e.yaml").write_text("")
    assert problems(RULE, final, tmp_path / "e.yaml") == ["tuned/e.yaml holds no rates"]
    (tmp_path / "e.yaml").write_text("a: [")
    assert problems(RULE, final, tmp_path / "e.yaml") == [
        "tuned/e.yaml is not valid YAML; restore it with git checkout"
    ]


@pytest.mark.parametrize("content", ["", "a,b\n1,2,3,4\n5,6,7,8,9\n"])
def test_a_table_of_tuning_rows_that_is_none(content, tables, tmp_path):
    final, _, check = tables
    check()
    (tmp_path / "e.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"e\.csv is no table of runs"):
        problems(RULE, final, tmp_path / "e.yaml")


def test_swapped_labels(tables):
    final, _, check = tables
    swapped = final.assign(norm=final["norm"].map({"ln": "gn", "gn": "ln"}))
    assert any("their run's name contradicts" in problem for problem in check(final=swapped))
    axis = final.assign(groups=final["groups"].map({"": "", "4": "16", "16": "4"}))
    assert any("4 rows have labels that their run's name contradicts" in problem for problem in check(final=axis))


def test_dropped_and_added_seeds(tables):
    final, _, check = tables
    assert check(final=final.drop(index=2)) == ["cnn/gn/b8/groups=4 lacks seeds 20"]
    added = table("final", [0.2], [20, 21, 22])
    assert "cnn/ln/b8 has seeds that the rule does not name: 22" in check(final=added)
    assert any("twice" in problem for problem in check(final=pd.concat([final, final[:1]])))


def test_a_test_metric_in_tuning(tables):
    _, tuning, check = tables
    (problem,) = check(tuning=tuning.assign(**{"test/error": 2.0}))
    assert "hold test/error" in problem


def test_seeds_that_took_part_in_both(tables):
    _, tuning, check = tables
    assert any("took part in tuning" in problem for problem in check(tuning=tuning.assign(seed=tuning["seed"] + 20)))


def test_a_rate_that_the_rows_do_not_choose(tables):
    *_, check = tables
    chosen = {cell_key(dict(zip(COLUMNS, cell, strict=True))): 0.4 for cell in CELLS}
    messages = check(chosen=chosen)
    assert any("is not what its rows choose" in problem for problem in messages)
    assert "cnn/ln/b8 ran at 0.2, tuned was 0.4" in messages


def test_a_rival_that_was_tuned_less(tables):
    _, tuning, check = tables
    fewer = tuning[(tuning["norm"] != "ln") | (tuning["lr"] != 0.4)]
    assert "cnn/ln/b8 was not tuned over the same rates and seeds as the rule names" in check(tuning=fewer)


COMMITTED = sorted(path.parent for path in (ROOT / "results" / "reference").glob("*/runs.csv"))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_the_committed_rows_hold_together(folder):
    profile = folder.name.partition("_")[0]
    first = json.loads((folder / "provenance.json").read_text())["first_seed"]
    for name in base("invariance", profile).profile.experiments:
        rule = base(name, profile, f"profile.first_seed={first}").experiment
        if not rule.sources:
            rows = read_rows(folder / "runs.csv", rule.axes)
            assert problems(rule, rows[rows["experiment"] == name], tuned_path(profile, name)) == []
