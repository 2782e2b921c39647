"""One run over several processes: equal to one process with the whole batch; stopped, killed and started again."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
import torch

from experiments.cli import command as cli
from experiments.config.errors import ConfigError
from experiments.runs.identity import run_id
from experiments.training.check import check_fields
from tests.helpers import two_ranks
from tests.helpers.commands import ROOT
from tests.helpers.configs import composed
from tests.helpers.processes import OFTEN, TASKS, assert_equal, folders, only, train, wait_for

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
SMALL = {"norm=bn": "norm=ln", "trainer.steps=400": "trainer.steps=150"}
TASK = [SMALL.get(part, part) for part in TASKS["LSTM, dropout"]] + OFTEN
CLOSE = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float64": {"rtol": 1e-10, "atol": 1e-12}}


@pytest.fixture(scope="module")
def by_two_ranks(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("ranks") / "results.pt"
    command = [*TORCHRUN, "-m", "tests.helpers.two_ranks", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("dtype", two_ranks.DTYPES)
@pytest.mark.parametrize("case", two_ranks.CASES)
def test_two_ranks_do_what_one_process_does_with_the_whole_batch(case, dtype, by_two_ranks):
    """Losses, gradient norms, validation and weights, running statistics among them, over clipped steps of SGD."""
    rows, weights = two_ranks.trained(case, two_ranks.DTYPES[dtype])
    rows_of_two, weights_of_two = by_two_ranks["trained"][case, dtype]
    assert len(rows) == two_ranks.STEPS
    torch.testing.assert_close(rows_of_two, rows, **CLOSE[dtype])
    torch.testing.assert_close(weights_of_two, weights, **CLOSE[dtype])


def test_a_value_that_is_not_finite_on_one_rank_ends_all_after_the_same_step(by_two_ranks):
    assert by_two_ranks["diverged"] == [(2, True), (2, True)]


def test_the_fused_kernel_refuses_several_ranks_with_a_reason(by_two_ranks):
    assert "several processes" in by_two_ranks["refusal"]


def torchrun(runs_dir, *arguments: str, **options) -> subprocess.Popen:
    """The command in the background. TORCHRUN stands where `start` puts the interpreter."""
    from tests.helpers import processes

    command = [*TORCHRUN, *processes.command(runs_dir, *arguments)[1:]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, process_group=0, text=True, **{**quiet, **options})


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    """Return the rank processes, in order; those that have started: a process that was just forked has no rank."""
    children = [child for child in psutil.Process(process.pid).children() if "RANK" in child.environ()]
    return sorted(children, key=lambda child: int(child.environ()["RANK"]))


@pytest.mark.scorecard("R1", "one run over two processes: told to stop, one killed, resumed bit for bit")
def test_a_run_over_two_processes_that_is_stopped_and_killed_resumes_bit_for_bit(tmp_path, record_property):
    """With dropout, whose masks differ by rank; SIGTERM to torchrun, then kill -9 of its second rank."""
    straight = torchrun(tmp_path / "straight", *TASK, stdout=subprocess.PIPE)
    assert straight.wait(300) == 0
    reference = only(tmp_path / "straight")
    assert straight.stdout.read().count(f"done: {reference.path}") == 1, "rank 0 alone prints"
    assert json.loads((reference.path / "environment.json").read_text())["ranks"] == 2

    runs_dir = tmp_path / "disturbed"

    def in_its_steps() -> bool:
        status = only(runs_dir).status if folders(runs_dir) else {}
        return status.get("step", 0) > 0 and status["pid"] in [child.pid for child in ranks_of(process)]

    process = torchrun(runs_dir, *TASK)
    wait_for(in_its_steps, process)
    ranks = ranks_of(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0 and not any(child.is_running() for child in ranks)
    status, saved = only(runs_dir).status, only(runs_dir).load_checkpoint("cpu")
    assert status["status"] == "interrupted" and saved["state"]["step"] >= status["step"] > 0

    process = torchrun(runs_dir, *TASK)
    wait_for(in_its_steps, process)
    ranks = ranks_of(process)
    ranks[1].kill()
    assert process.wait(60) != 0 and not any(child.is_running() for child in ranks)
    assert not only(runs_dir).finished and not only(runs_dir).held

    assert torchrun(runs_dir, *TASK).wait(300) == 0
    assert_equal(only(runs_dir), reference)
    record_property("figure", "interrupted with a checkpoint; the other rank ended; equal to the undisturbed run")


@pytest.fixture
def of_two_ranks(monkeypatch):
    """The environment of rank 0 of two."""
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def test_a_batch_that_cannot_be_split_over_the_ranks_is_refused(of_two_ranks, tmp_path):
    check_fields(composed("data.batch_size=8", f"runs_dir={tmp_path}"))
    with pytest.raises(ConfigError, match=r"data.batch_size=7 .* 2 equal shards, one a rank; nearest: 8"):
        check_fields(composed("data.batch_size=7", f"runs_dir={tmp_path}"))


def test_a_sweep_is_not_spread_over_ranks(of_two_ranks, tmp_path):
    result = train(tmp_path / "runs", "-m", "norm=ln,bn", env=os.environ)
    assert result.returncode == 2 and result.stderr.startswith("error: torchrun spreads one run"), result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_an_error_is_printed_once_and_by_the_rank_that_ends_first(monkeypatch, capsys):
    """torchrun ends all ranks with the first that ends, which must not be one that prints nothing."""
    slept: list[float] = []
    monkeypatch.setattr(cli.time, "sleep", slept.append)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, message, waits in (("0", "error: no\n", 0), ("1", "", 1)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit), cli.refusals_in_one_line():
            raise ConfigError("no")
        assert (capsys.readouterr().err, len(slept)) == (message, waits)


def test_the_number_of_ranks_is_in_the_name_only_beyond_one(monkeypatch):
    cfg = composed()
    alone = run_id(cfg)
    for ranks in (1, 2, 3):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        assert (run_id(cfg) == alone) == (ranks == 1)
        assert run_id(cfg, ranks=1) == alone
