"""Shared by all tests: one thread, a separate cache, the command line as a user calls it, the scorecard of faults."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import Server, run

torch.set_num_threads(1)


# Files with tests of about a minute: they are begun first, else one of them is left alone at the end.
LONGEST = ("test_extending.py", "test_wandb.py", "test_benchmark.py", "test_distributed.py", "test_launchers.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the user's cache of prepared data out of the tests; those of one worker share another."""
    os.environ["LAYERNORM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def one_thread():
    """A test that uses more threads leaves none to the next one, whose sums would be rounded differently."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_wandb_service(monkeypatch):
    """wandb names its process in the environment: the commands of a test would take that of an earlier test."""
    monkeypatch.delenv("WANDB_SERVICE", raising=False)


@pytest.fixture
def cli(tmp_path):
    """Return a function: cli("train", "norm=ln", ...) runs python -m experiments.train with its runs below tmp_path."""

    def call(module: str, *arguments: str, runs: bool = True) -> subprocess.CompletedProcess:
        runs_dir = [f"runs_dir={tmp_path / 'runs'}"] if runs else []
        return run(f"experiments.{module}", *arguments, *runs_dir)

    return call


@pytest.fixture(scope="session")
def server():
    """Return Server's run: commands in hundredths of a second besides their work."""
    with Server() as run_forked:
        yield run_forked


# --- The scorecard of faults, from the marked tests -------------------------------------------------------------------


def pytest_addoption(parser):
    parser.addoption("--campaign", action="store_true", help="kill runs at random moments for long")
    parser.addoption(
        "--scorecard", metavar="FOLDER", type=Path, help="write the figures of the marked tests to a table"
    )


@pytest.fixture
def trials(request) -> dict[str, int]:
    """Return how often a run is killed: with --campaign 100 times in all, over 20 trials of three kinds of tasks."""
    long = request.config.getoption("--campaign")
    return {"rounds": 7, "kills": 7} if long else {"rounds": 1, "kills": 4}


@pytest.fixture(autouse=True)
def scorecard_row(request, record_property):
    """Attach the scorecard's row to the report, since other processes run the tests."""
    for mark in request.node.iter_markers("scorecard"):
        record_property("scorecard", mark.args)


def pytest_terminal_summary(terminalreporter, config):
    folder = config.getoption("--scorecard")
    if folder is None:
        return
    from tests.helpers.scorecard import write

    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    rows = [dict(report.user_properties) | {"outcome": report.outcome, "test": report.nodeid} for report in reports]
    write(folder, [row for row in rows if "scorecard" in row])
