"""Fixtures of the fused sequence."""

import functools

import pytest
import torch

from models.recurrent import Recurrent, compiler, cpu, layout, pool
from tests.helpers.fused import make


@pytest.fixture
def threads():
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.fixture(params=["rnn", "lstm", "gru"])
def layer(request) -> Recurrent:
    return make(request.param, 18, "ln")


@pytest.fixture
def kernels_for(monkeypatch):
    """A function that puts the kernels for another processor, named by the compiler's flag, in place of this one's."""

    def replace(flag: str) -> None:
        layout.plan_of.cache_clear()
        for module in (cpu, layout):
            monkeypatch.setattr(module, "library", functools.partial(compiler.library, flag))

    yield replace
    layout.plan_of.cache_clear()


@pytest.fixture
def fused_calls(monkeypatch) -> list:
    """Grows with every sequence that the kernels run."""
    calls, sequence = [], cpu.sequence
    monkeypatch.setattr(cpu, "sequence", lambda spec, inputs: calls.append(spec) or sequence(spec, inputs))
    return calls


@pytest.fixture
def empty_pool(monkeypatch) -> pool.Pool:
    """A pool of the test's own."""
    own = pool.Pool()
    monkeypatch.setattr(pool, "take", own.take)
    monkeypatch.setattr(cpu, "take", own.take)
    return own
