"""Many runs: a long sweep, many sweeps of one grid at once, many folders with damaged ones among them.

Scaled down; with --campaign 500 runs, 20 sweeps and 10,000 folders (scripts/fault_campaign.sh).
"""

import json
import os
import pickle
import time
from pathlib import Path

import pytest

from experiments.runs.folder import RESULT_FILES, RunFolder, _sha256
from experiments.runs.identity import run_id
from tests.helpers.commands import ROOT
from tests.helpers.configs import composed
from tests.helpers.processes import folders, start
from tests.helpers.tiny_runs import train

MLP = ["model=mlp", "model.hidden_sizes=[4]", "norm=ln", "data=digits", "data.batch_size=16"]
MLP += ["trainer.steps=2", "trainer.evaluations=1", "wandb.mode=disabled", "quiet=true"]
PATIENCE = 1800  # seconds
DAMAGES = {  # of every fifteenth run
    "config.yaml": b"model: [",
    "metrics.jsonl": b"[1]\n",
    "summary.json": b"{}",
    "status.json": b"\xff\xfe",
    "last.pt": b"",
}


@pytest.fixture
def long(request) -> bool:
    return request.config.getoption("--campaign")


def sweep(runs_dir: Path, count: int) -> tuple:
    """A sweep over so many seeds, as `server` takes it."""
    arguments = ("-m", *MLP, f"seed=range(0,{count})", f"runs_dir={runs_dir}")
    return "experiments.train", arguments, os.environ, ROOT, PATIENCE


@pytest.mark.scorecard("scale", "many runs in one sweep, then the same sweep once more")
def test_many_runs_in_one_sweep(long, server, tmp_path, record_property):
    count = 500 if long else 12
    took = []
    for counts in (f"{count} done, 0 skipped", f"0 done, {count} skipped"):
        began = time.monotonic()
        result = server(*sweep(tmp_path, count))
        took.append(time.monotonic() - began)
        assert result.returncode == 0 and f"{count} runs: {counts}" in result.stdout, result.stderr
    record_property("figure", f"{count} runs in {took[0]:.0f} s; started again {took[1]:.0f} s")


@pytest.mark.scorecard("scale", "many sweeps of one grid at once")
def test_many_sweeps_of_one_grid_at_once(long, tmp_path, record_property):
    count, runs, began = 20 if long else 3, 40 if long else 6, time.monotonic()
    many = [start(tmp_path, "-m", *MLP, f"seed=range(0,{runs})") for _ in range(count)]
    outputs = [one.communicate(timeout=PATIENCE) for one in many]
    assert [one.returncode for one in many] == count * [0], outputs
    trained = folders(tmp_path)
    assert len(trained) == runs and all(folder.finished and not folder.changed for folder in trained)
    assert all([row["step"] for row in folder.metrics()] == [2] for folder in trained), "every row once"
    took = time.monotonic() - began
    record_property("figure", f"{count} sweeps of {runs} runs: all exit with 0, each run trained once; {took:.0f} s")


@pytest.fixture
def many(long, tmp_path) -> tuple[Path, int, int]:
    """A folder of finished runs that differ in their seed, made from one; how many there are, and how many damaged."""
    count = 10_000 if long else 45
    source = train(tmp_path / "one", *MLP)
    texts = {name: (source.path / name).read_text() for name in RESULT_FILES}
    summary, status = json.loads(texts["summary.json"]), json.loads((source.path / "status.json").read_text())
    one, damaged = pickle.dumps(composed(*MLP)), 0
    for seed in range(count):
        cfg = pickle.loads(one)
        cfg.seed = seed
        folder = RunFolder(tmp_path / "runs", run_id(cfg))
        folder.path.mkdir(parents=True)
        texts["config.yaml"] = texts["config.yaml"].replace(f"\nseed: {max(seed - 1, 0)}\n", f"\nseed: {seed}\n")
        texts["summary.json"] = json.dumps(summary | {"run_id": folder.run_id, "seed": seed})
        for name, text in texts.items():
            (folder.path / name).write_text(text)
        sha256 = {name: _sha256(folder.path / name) for name in RESULT_FILES}
        (folder.path / "status.json").write_text(json.dumps(status | {"sha256": sha256}))
        if seed % 15 == 7:
            name = list(DAMAGES)[seed // 15 % len(DAMAGES)]
            (folder.path / name).write_bytes(DAMAGES[name])
            damaged += 1
    return tmp_path / "runs", count, damaged


@pytest.mark.scorecard("scale", "many run folders with damaged ones among them: every command goes on")
def test_many_folders_with_damaged_ones_among_them(many, server, record_property):
    (runs_dir, count, damaged), took = many, {}

    def call(command: str, *arguments: str):
        began = time.monotonic()
        result = server(f"experiments.{command}", (*arguments, f"runs_dir={runs_dir}"), os.environ, ROOT, PATIENCE)
        took[command] = time.monotonic() - began
        assert "Traceback" not in result.stdout + result.stderr, result.stderr
        return result

    shown = call("status")
    assert shown.returncode == 0 and shown.stdout.splitlines()[-1].startswith(f"{count} runs: "), shown.stderr
    verified = call("verify", "rows=[]")
    named = {line.partition(":")[0] for line in verified.stdout.splitlines()[:-1]}
    assert verified.returncode == 1 and len(named) == damaged, "each of them is named, and no other"
    again = call("train", "-m", *MLP, f"seed=range(0,{count})")
    assert again.returncode == 0 and f"{count} runs: " in again.stdout, again.stderr
    assert call("compare", "baseline=norm:ln").returncode == 2  # all are of one normaliser, which is seen when read
    times = ", ".join(f"{command} {seconds:.0f} s" for command, seconds in took.items())
    record_property("figure", f"{count} folders, {damaged} damaged: {times}")
