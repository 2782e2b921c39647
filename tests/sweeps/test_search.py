"""scripts.search: trials are runs, and a search that is started again goes on."""

import os
import subprocess
import sys

import pytest

from experiments.runs.folder import RunFolder
from tests.helpers.copies import copy_repository

TASK = ["model=mlp", "model.hidden_sizes=[8]", "norm=ln", "data=digits", "trainer.steps=5", "wandb.mode=disabled"]


def search(folder, trials: int, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "scripts.search", *arguments]
    environment = os.environ | {"TRIALS": str(trials)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)


def test_a_search_goes_on_and_never_reads_the_test_split(tmp_path):
    pytest.importorskip("optuna")
    copy = copy_repository(tmp_path)
    runs = copy / "results" / "runs"
    assert search(copy, 2, *TASK).returncode == 0
    first = {path.name for path in runs.iterdir()}
    result = search(copy, 4, *TASK)
    assert result.returncode == 0 and "best of 4: val/loss" in result.stdout, result.stderr
    names = {path.name for path in runs.iterdir() if path.is_dir()}
    assert len(first) == 2 and first < names and len(names) == 4
    summaries = [RunFolder(runs, name).summary for name in names]
    assert all(summary["status"] == "done" and "test/loss" not in summary for summary in summaries)
    refused = search(copy, 1, "model=mpl")
    assert refused.returncode == 2 and refused.stderr.splitlines()[-1].startswith("error: model=mpl is unknown")
