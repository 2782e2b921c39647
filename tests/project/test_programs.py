"""The whole programs of docs/layers.md, as they are and with what PyTorch puts around a model."""

import functools
import multiprocessing
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

import models
from tests.helpers.commands import IMPORTED
from tests.project.test_documentation import ROOT, contents

PROGRAMS = [block for block in contents(ROOT / "docs" / "layers.md", "fence", "python") if "def train(" in block]
NAMES = ["language model", "translator", "tagger"]

program = pytest.mark.parametrize("number", range(3), ids=NAMES)


@functools.cache
def losses(number: int) -> tuple[float, float]:
    """Return the first and the last loss of a program as it stands; it asserts itself that it has learnt."""
    namespace = loaded(number)
    return namespace["first"], namespace["last"]


def loaded(number: int) -> dict:
    namespace: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "layer_normalization", models)
        exec(compile(PROGRAMS[number], NAMES[number], "exec"), namespace)
    return namespace


def test_there_are_three():
    assert len(PROGRAMS) == len(NAMES)


@program
def test_under_autocast(number):
    first, last = loaded(number)["train"](autocast=True)
    assert first == pytest.approx(losses(number)[0], rel=0.01)
    assert last < 0.5 * first


@program
def test_under_torch_compile(number):
    compiled = functools.partial(torch.compile, backend="aot_eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        assert loaded(number)["train"](compiled) == pytest.approx(losses(number), rel=1e-3)


def test_over_two_ranks(tmp_path):
    """Both ranks draw the same examples, so that the mean gradient is that of one process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    ranks = [context.Process(target=train_as_rank, args=(rank, tmp_path)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    for number in range(3):
        of_ranks = [torch.load(tmp_path / f"{number}-{rank}.pt") for rank in range(2)]
        assert of_ranks[0] == of_ranks[1] == pytest.approx(losses(number), rel=1e-3)


def train_as_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for number in range(3):
        torch.save(loaded(number)["train"](DistributedDataParallel), folder / f"{number}-{rank}.pt")
    dist.destroy_process_group()
