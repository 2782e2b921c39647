"""Fixtures of the fused sequence."""

import gc

import pytest
import torch

from models.recurrent import Recurrent, cpu, pool
from tests.helpers.fused import make


@pytest.fixture
def threads():
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.fixture(params=["rnn", "lstm", "gru"])
def layer(request) -> Recurrent:
    return make(request.param, 18, "ln")


@pytest.fixture
def fused_calls(monkeypatch) -> list:
    """Grows with every sequence that the kernels run."""
    calls, sequence = [], cpu.sequence
    monkeypatch.setattr(cpu, "sequence", lambda spec, inputs: calls.append(spec) or sequence(spec, inputs))
    return calls


@pytest.fixture
def empty_pool(monkeypatch):
    gc.collect()
    monkeypatch.setattr(pool, "_free", {})
