"""A cache of its own for every test; no network where a test asks for none."""

import shutil
import socket

import pytest

from tests.helpers.datasets import forget


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder for each test, and nothing left in memory from another test."""
    monkeypatch.setenv("LAYERNORM_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache"
    forget()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # pytest keeps its folders; this one grows to 200 MB


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
