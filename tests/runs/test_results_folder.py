"""python -m experiments.status on real runs, and how many run folders become a table."""

import json
import shutil
import signal
import time

import pytest

from experiments.runs.folder import RunFolder
from experiments.runs.rows import collect
from experiments.sweeps.grid import run_ids
from tests.helpers.processes import MLP, folders, start, wait_for


def set_value(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_status_shows_every_state(runs, cli):
    """Finished, running, killed, interrupted and failed runs in one folder."""
    long = [*MLP, "trainer.steps=100000", "trainer.checkpoint_every=0.05"]
    live, killed, stopped = (start(runs, *long, f"seed={seed}") for seed in (1, 2, 3))
    try:
        for process in (live, killed, stopped):
            wait_for(lambda p=process: any(f.status.get("pid") == p.pid and f.status["step"] for f in folders(runs)))
        killed.kill()
        stopped.send_signal(signal.SIGTERM)
        for process in (killed, stopped):
            process.wait(timeout=60)
        failed = folders(runs)[0]
        failed.set_status("failed", message="boom")
        result = cli("status", f"runs_dir={runs}", runs=False)
    finally:
        live.kill()
        live.wait()
    assert result.returncode == 0, result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("train-")}
    assert len(lines) == 5 and "boom" in lines[failed.run_id]
    states = [line.split()[1] for line in lines.values()]
    assert states == ["running", "died", "failed", "interrupted", "done"], "what needs attention comes first"
    running = next(line for line in lines.values() if " running " in line)
    assert "/100000" in running and ("min" in running or " s" in running)
    assert f"process {killed.pid} is gone; start the command again" in result.stdout
    assert result.stdout.splitlines()[-1] == "5 runs: 1 running, 1 died, 1 failed, 1 interrupted, 1 done"


def test_status_of_a_profile_counts_what_is_not_started(runs, cli):
    result = cli("status", "profile=quick", "only=invariance", f"runs_dir={runs}", runs=False)
    assert result.returncode == 0 and "new" in result.stdout.splitlines()[-1], result.stderr
    wrong = cli("status", "profile=quick", "only=invariances", f"runs_dir={runs}", runs=False)
    assert wrong.returncode == 2 and "nearest: invariance" in wrong.stderr
    empty = cli("status", f"runs_dir={runs / 'none'}", runs=False)
    assert empty.returncode == 2 and empty.stderr.count("\n") == 1


@pytest.mark.scorecard("scale", "run folders as a table")
def test_many_folders_become_a_table(whole, tmp_path, trials, record_property):
    """With --campaign ten thousand; the figure says how long."""
    count = 10_000 if trials["rounds"] > 1 else 200
    seeds = ",".join(map(str, range(100, 100 + count // 2)))
    began = time.perf_counter()
    names = run_ids(
        "recurrent_gain", "quick", ["norm=none,ln", "optim.schedule=constant", f"seed={seeds}", "optim.lr=0.01"]
    )
    named = time.perf_counter() - began
    assert len(names) == len(set(names)) == count
    source = folders(whole)[0].path
    for at, name in enumerate(names):
        folder = RunFolder(tmp_path, name)
        folder.path.mkdir()
        for file in ("metrics.jsonl", "status.json"):
            shutil.copyfile(source / file, folder.path / file)
        (folder.path / "summary.json").write_text((source / "summary.json").read_text())
        set_value(folder.path / "summary.json", run_id=name, seed=at)
    began = time.perf_counter()
    rows, curves, missing = collect(names, tmp_path)
    read = time.perf_counter() - began
    assert rows["run_id"].tolist() == names and rows["seed"].tolist() == list(range(count)) and not missing
    assert len(curves) == 2 * count
    record_property("figure", f"{count} folders read in {read:.1f} s, their names worked out in {named:.1f} s")
