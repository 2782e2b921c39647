"""Shared by all tests: one thread, a cache of their own, the command line as a user calls it, the faults' scorecard."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or writes the user's cache of prepared data; those of one worker share one."""
    os.environ["LAYERNORM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def cli(tmp_path):
    """cli("train", "norm=ln", ...) runs python -m experiments.train with its runs below tmp_path."""

    def call(module: str, *arguments: str, runs: bool = True) -> subprocess.CompletedProcess:
        own = [f"runs_dir={tmp_path / 'runs'}"] if runs else []
        command = [sys.executable, "-m", f"experiments.{module}", *arguments, *own]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)

    return call


# --- The scorecard of faults: what each marked test withstood ---------------------------------------------------------


def pytest_addoption(parser):
    parser.addoption("--campaign", action="store_true", help="kill runs at random moments for long")
    parser.addoption("--scorecard", metavar="FOLDER", type=Path, help="write what the marked tests reached to a table")


@pytest.fixture
def trials(request) -> dict[str, int]:
    """How often a run is killed; with --campaign over 20 trials and 100 kills in all, over three families of tasks."""
    long = request.config.getoption("--campaign")
    return {"rounds": 7, "kills": 7} if long else {"rounds": 1, "kills": 4}


@pytest.fixture(autouse=True)
def scorecard_row(request, record_property):
    """The row goes with the report, since other processes run the tests."""
    for mark in request.node.iter_markers("scorecard"):
        record_property("scorecard", mark.args)


def pytest_terminal_summary(terminalreporter, config):
    folder = config.getoption("--scorecard")
    if folder is None:
        return
    from tests.helpers.scorecard import write

    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    found = [dict(report.user_properties) | {"outcome": report.outcome, "test": report.nodeid} for report in reports]
    write(folder, [row for row in found if "scorecard" in row])
