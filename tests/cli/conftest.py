"""A command with a mistake, called in this process."""

import importlib
import os
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra


@pytest.fixture(scope="session")
def cache_of_refusals(tmp_path_factory):
    """A cache that no other test fills: there, data that are not at hand would be found prepared."""
    return tmp_path_factory.mktemp("cache_of_refusals")


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys, cache_of_refusals):
    """refusal("train", "norm=lnn") returns the line that the command prints; all else of a refusal is checked here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    monkeypatch.setenv("LAYERNORM_CACHE", str(cache_of_refusals))
    (tmp_path / "file").write_text("a file")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "claims.md").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")

    def call(module: str, *arguments: str) -> str:
        package = f"{module}.__main__" if module in ("report", "benchmark") else module
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        GlobalHydra.instance().clear()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as end:
            importlib.import_module(f"experiments.{package}").main()
        out, err = capsys.readouterr()
        assert end.value.code == 2 and out == ""
        assert sorted(tmp_path.rglob("*")) == before
        [line] = err.splitlines()
        assert line.startswith("error: ")
        return line

    return call
