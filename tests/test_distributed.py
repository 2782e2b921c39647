"""One run over several processes: equal to one process with the whole batch, killed, stopped and started again."""

import subprocess
import sys

import pytest
import torch

from tests import two_ranks
from tests.conftest import ROOT

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
CLOSE = {"float32": {"rtol": 2e-4, "atol": 2e-5}, "float64": {"rtol": 1e-9, "atol": 1e-11}}


@pytest.fixture(scope="module")
def by_two_ranks(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("ranks") / "found.pt"
    command = [*TORCHRUN, "-m", "tests.two_ranks", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("dtype", two_ranks.DTYPES)
@pytest.mark.parametrize("case", two_ranks.CASES)
def test_two_ranks_do_what_one_process_does_with_the_whole_batch(case, dtype, by_two_ranks):
    rows, weights = two_ranks.trained(case, two_ranks.DTYPES[dtype])
    rows_of_two, weights_of_two = by_two_ranks["trained"][case, dtype]
    assert len(rows) == two_ranks.STEPS
    torch.testing.assert_close(rows_of_two, rows, **CLOSE[dtype])
    torch.testing.assert_close(weights_of_two, weights, **CLOSE[dtype])
