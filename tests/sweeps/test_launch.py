"""Sweeps through the command line: every job once, several experiments at once, a failing run, checks by kind."""

import subprocess
import sys

from experiments.runs.folder import RunFolder, RunStatus, write_json
from experiments.runs.identity import run_id
from experiments.sweeps import launch
from experiments.sweeps.grid import apart_from_seed
from experiments.sweeps.launch import conclude
from tests.helpers.configs import composed
from tests.helpers.processes import MLP, TINY, finish


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


def test_known_runs_are_left_out_of_a_sweep(cli, tmp_path):
    grid = ["-m", "norm=none,ln", "seed=0,1", "trainer.steps=4", *MLP]
    ids = [line.split()[-1] for line in cli("train", *grid, "plan=true").stdout.splitlines() if "-s" in line]
    table = tmp_path / "report"
    table.mkdir()
    rows = [f"{ids[0]},done", f"{ids[1]},diverged", f"{ids[2]},interrupted", "another,done"]
    (table / "runs.csv").write_text("\n".join(["run_id,status", *rows]))
    result = cli("train", *grid, f"known={table}")
    assert result.returncode == 0, result.stderr
    assert f"2 of 4 runs are known from {table}" in result.stdout and "2 runs: 2 done, 0 skipped" in result.stdout
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(ids[2:])
    (table / "runs.csv").write_text("\n".join(["run_id,status", *(f"{name},done" for name in ids)]))
    result = cli("train", *grid, f"known={table / 'runs.csv'}")
    assert result.returncode == 0 and result.stdout.strip() == f"4 of 4 runs are known from {table / 'runs.csv'}"


def test_sweep_with_joblib_runs_in_other_processes(cli, tmp_path):
    arguments = ["-m", "model=cnn,mlp", "norm=bn", "data=digits", "trainer.steps=4", "trainer.evaluations=1"]
    result = cli("train", *arguments, "hydra/launcher=joblib", "wandb.mode=disabled")
    assert result.returncode == 0, result.stderr
    assert "2 runs: 2 done" in result.stdout
    folders = [RunFolder(path.parent, path.name) for path in (tmp_path / "runs").iterdir()]
    assert all(folder.finished and not (folder.path / "wandb").exists() for folder in folders)


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
    monkeypatch.setattr(launch, "check_build", lambda run: checked.append((run.cfg.norm.name, run.cfg.seed)))
    finish(RunFolder(tmp_path, run_id(configs[0])))
    kinds = [apart_from_seed(job) for job in jobs]
    pending = launch.select_pending(launch.runs_of(configs, kinds), kinds)
    assert pending == [1, 2, 3, 4, 5] and checked == [("ln", 1), ("bn", 0)]


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


def test_the_last_line_counts_what_was_there_before_as_skipped(tmp_path, capsys):
    """Also where that is a run that diverged."""
    folders = [RunFolder(tmp_path, name) for name in ("diverged", "done", "new")]
    for folder in folders:
        finish(folder)
    with folders[0].lock():
        folders[0].set_status(RunStatus.DIVERGED)
        write_json(folders[0].path / "summary.json", {**folders[0].summary, "status": "diverged", "diverged_at": 3})
    assert conclude(folders, set(folders[:2]), {})
    assert capsys.readouterr().out.startswith("3 runs: 1 done, 2 skipped, 0 diverged, 0 failed")
