"""Two finished runs, whole, and a copy of them for each test that changes something."""

import shutil

import pytest

from tests.helpers.processes import MLP, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two finished runs, with two checkpoints each."""
    runs_dir = tmp_path_factory.mktemp("whole") / "runs"
    result = train(runs_dir, "-m", *MLP, "norm=none,bn", "trainer.steps=40", "trainer.checkpoint_every=0.001")
    assert result.returncode == 0, result.stderr
    return runs_dir


@pytest.fixture
def runs(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "runs")
