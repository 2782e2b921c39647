"""A run once more from its id, and runs compared with committed rows."""

import json
import os

import pandas as pd
import pytest

import data
from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder, write_json
from experiments.runs.records import RunStatus
from experiments.sweeps.again import again, committed_rows, find
from tests.helpers.tiny_runs import MODELS, command, train


def is_here(row: dict) -> bool:
    """Whether a row's data are: embedded, or in the folder that LAYERNORM_DATA names."""
    files = data.SETS[row["data"]].files
    return not files or "LAYERNORM_DATA" in os.environ


ONE_OF_EACH = {
    (row["experiment"], row["model"], row["data"]): row["run_id"] for row in committed_rows() if is_here(row)
}


@pytest.mark.parametrize("run_id", ONE_OF_EACH.values(), ids=map("-".join, ONE_OF_EACH))
def test_a_committed_row_is_composed_from_its_id(run_id, capsys):
    """`again` refuses whatever would not have this very id."""
    arguments = again(["quiet=true", f"run={run_id}", "runs_dir=elsewhere"])
    assert arguments[0] == "-m" and arguments[-2:] == ["quiet=true", "runs_dir=elsewhere"]
    assert capsys.readouterr().out.startswith("python -m experiments.train -m experiment=")


def test_the_command_plans_the_run_of_a_row(tmp_path):
    run_id = next(iter(ONE_OF_EACH.values()))
    done = command("train", f"run={run_id}", "plan=true", f"runs_dir={tmp_path}")
    assert done.returncode == 0 and run_id in done.stdout and "1 runs, 0 done" in done.stdout, done.stderr


@pytest.mark.parametrize("model", ["gru-gn", "cnn-wn", "draw-ln"])
def test_a_folder_is_trained_again_elsewhere_and_verified(model, tmp_path):
    """Into a table of rows and back: equal to the last bit; then by how much, which fails beyond a tolerance alone."""
    folder = train(tmp_path / "theirs", *MODELS[model], "optim.clip=null", "seed=3")
    pd.DataFrame([folder.summary]).to_csv(tmp_path / "runs.csv", index=False)
    mine = [f"runs_dir={tmp_path / 'mine'}"]
    done = command("train", f"run={folder.path}", *mine, "wandb.mode=disabled")
    assert done.returncode == 0 and folder.run_id in done.stdout, done.stderr
    verify = ["rows=[]", f"against={tmp_path}", *mine]
    same = command("verify", *verify, "tolerance=0")
    assert same.returncode == 0 and f"{folder.run_id}: equal to the last bit" in same.stdout, same.stdout

    metric = next(name for name in folder.summary if name.startswith("test/"))
    table = pd.read_csv(tmp_path / "runs.csv", dtype=str)
    table[metric] = str(folder.summary[metric] - 0.25)
    table.to_csv(tmp_path / "runs.csv", index=False)
    other = command("verify", *verify)
    assert other.returncode == 0 and f"differs, {metric} +0.25; the row is of commit" in other.stdout, other.stdout
    assert command("verify", *verify, "tolerance=0.3").returncode == 0
    beyond = command("verify", *verify, "tolerance=0.2")
    assert beyond.returncode == 1 and "0 equal, 1 differ, 1 by more than 0.2" in beyond.stdout


def test_a_run_that_diverged_differs_beyond_any_tolerance(tmp_path):
    folder = train(tmp_path / "runs", *MODELS["mlp-rms"])
    pd.DataFrame([folder.summary]).to_csv(tmp_path / "runs.csv", index=False)
    summary = json.loads((folder.path / "summary.json").read_text())
    write_json(folder.path / "summary.json", summary | {"status": "diverged", "diverged_at": 2})
    RunFolder(tmp_path / "runs", folder.run_id).set_status(RunStatus.DIVERGED)
    done = command("verify", "rows=[]", f"against={tmp_path}", f"runs_dir={tmp_path / 'runs'}", "tolerance=1e9")
    assert done.returncode == 1 and "diverged here and done there" in done.stdout, done.stdout


MISTAKES = {
    "train run=recurrent_gian": "is not the id of a committed row, a run in",
    "train run=recurrent_gain-lstm": "is the start of",
    f"train run={ONE_OF_EACH['train_test', 'cnn', 'digits']} optim.lr=7": "would be another run: its",
    "train run=a run=b": "run= is given 2 times",
    "verify against=docs": "against=docs has no runs.csv",
    "verify against=results/reference/quick": "is finished and has a row in results/reference/quick",
    "verify tolerance=0.1": "needs rows; give against=",
    "verify against=results/reference/quick tolerance=-1": "is no distance; give 0 or more",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line(typed, runs, tmp_path):
    module, *arguments = typed.split()
    place = tmp_path / "none" if module == "train" else runs
    done = command(module, *arguments, f"runs_dir={place}")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: ") and MISTAKES[typed] in done.stderr


def test_a_row_in_the_table_wins_over_a_folder_and_a_name_over_a_beginning(tmp_path):
    row = next(iter(committed_rows()))
    assert find(row["run_id"], str(tmp_path)) == row
    with pytest.raises(ConfigError, match="give more of the name"):
        find(row["run_id"].partition("-s2")[0], str(tmp_path))


def test_a_folder_of_any_name_is_taken_as_it_is_typed(tmp_path, monkeypatch):
    train(tmp_path / "runs", *MODELS["cnn-wn"])
    place = (tmp_path / "runs").rename(tmp_path / "my runs (1)")
    (folder,) = place.iterdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(folder), f"~/{place.name}/{folder.name}"):
        plan = command("train", f"run={name}", f"runs_dir={tmp_path / 'again'}", "plan=true")
        assert plan.returncode == 0 and folder.name in plan.stdout, plan.stderr
        looked = command("inspect", f"run={name}", f"output={tmp_path / 'pictures'}")
        assert looked.returncode == 0, looked.stderr
    by_id = command("train", f"run={folder.name}", f"runs_dir=~/{place.name}", "plan=true")
    assert by_id.returncode == 0 and "1 done" in by_id.stdout, by_id.stderr
