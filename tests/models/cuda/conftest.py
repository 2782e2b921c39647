"""Kernels for GPUs run on one where there is one, otherwise in Triton's interpreter on CPU tensors."""

import importlib.util
import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported, which the tests of this folder do
collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["test_*.py"]


@pytest.fixture
def pool(monkeypatch):
    """The module's pool, empty and with room for two; on a GPU with graphs, otherwise with loops."""
    from models.recurrent import cuda
    from tests.helpers.cuda import DEVICE, Poisoned, loops

    pool = cuda.Pool(cuda._record if DEVICE == "cuda" else loops, bound=2)
    pool.idle.default_factory = Poisoned
    monkeypatch.setattr(cuda, "POOL", pool)
    if DEVICE == "cpu":
        monkeypatch.setattr(cuda, "_stream", lambda device: 0)
    return pool
