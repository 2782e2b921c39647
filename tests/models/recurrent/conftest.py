"""Every test runs under both backends and from one seed."""

import pytest
import torch

from models.recurrent import Recurrent


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=["fused", "reference"])
def backend(request, monkeypatch):
    """Everything here holds for the kernels and for the plain equations."""
    monkeypatch.setitem(Recurrent.__init__.__kwdefaults__, "backend", request.param)
