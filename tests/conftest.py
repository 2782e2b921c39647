"""Shared by all tests: one thread, a cache of their own, and the command line as a user calls it."""

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
