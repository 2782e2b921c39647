"""scripts/setup.sh: what it installs, and when it installs nothing. A stand-in for Python records what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT

STAND_IN = """#!/usr/bin/env bash
echo "$*" >> log
case "$*" in
    -c*) echo "${VERSION:-3 12}"; [ "${VERSION:-3 12}" != "3 10" ]; exit ;;
    "-m venv"*) [ "${VENV:-0}" = 0 ] || { echo "no ensurepip"; echo "install it"; exit 1; }
        mkdir -p .venv/bin .venv/lib && cp "$0" .venv/bin/python ;;
    *"pip install"*) [ "${PIP:-0}" = 0 ] || { seq 20; echo "ERROR: No matching distribution for torch"; exit 1; } ;;
esac
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "experiments" / "report").mkdir(parents=True)
    for name in ("__init__.py", "train.py", "wandb_sync.py", "report/__main__.py"):
        (tmp_path / "experiments" / name).touch()
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def source(clone: Path, extras: str = "", **environment: str) -> subprocess.CompletedProcess:
    (clone / "log").write_text("")
    script = f"{f'extras={extras}; ' if extras else ''}source {clone}/scripts/setup.sh"
    environment = os.environ | {"PYTHON": str(clone / "python")} | environment
    return subprocess.run(["bash", "-euc", script], cwd="/", env=environment, capture_output=True, text=True)


def installed(clone: Path) -> list[str]:
    """The requirements that pip was asked for."""
    lines = (clone / "log").read_text().splitlines()
    return [line.split()[-1] for line in lines if "pip install" in line and "-c constraints.txt" in line]


def test_experiments_get_no_development_tools_and_a_second_call_costs_nothing(clone):
    assert source(clone).returncode == 0 and installed(clone) == [".[experiments]"]
    assert source(clone).stdout == "" and (clone / "log").read_text() == ""


def test_an_environment_for_tests_serves_the_experiments_but_not_the_reverse(clone):
    source(clone)
    assert source(clone, "experiments,dev").returncode == 0 and installed(clone) == [".[experiments,dev]"]
    assert source(clone).stdout == "" and installed(clone) == []


def test_new_pins_are_installed(clone):
    source(clone)
    (clone / "constraints.txt").write_text("numpy==2.0\n")
    source(clone)
    assert installed(clone) == [".[experiments]"]


def test_commands_are_linked(clone):
    source(clone)
    links = {path.name: path.resolve() for path in (clone / ".venv" / "bin").glob("layernorm-*")}
    assert links == dict.fromkeys(
        ("layernorm-train", "layernorm-wandb-sync", "layernorm-report"), clone / "scripts" / "layernorm"
    )


@pytest.mark.parametrize("python, version", [("python", "3 10"), ("python3.99", "")])
def test_a_python_that_is_too_old_or_not_there_is_refused_in_one_line(python, version, clone):
    result = source(clone, PYTHON=str(clone / python), VERSION=version)
    assert result.returncode == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "Python 3.11 or later" in result.stderr and not (clone / ".venv").exists()


def environment_of(clone: Path, answer: str) -> None:
    """An environment whose Python answers every question like this."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{answer}\n")
    (clone / ".venv" / "bin" / "python").chmod(0o755)


@pytest.mark.parametrize("answer", ["exit 1", "echo 3 11", 'echo 3 12; [ "$2" != pip ]'])
def test_an_environment_of_another_python_or_without_pip_is_made_anew(answer, clone):
    environment_of(clone, answer)
    assert source(clone).returncode == 0
    assert "-m venv --clear .venv" in (clone / "log").read_text() and installed(clone) == [".[experiments]"]


def test_an_environment_is_kept_where_no_other_python_is_asked_for(clone):
    environment_of(clone, "echo 3 13")
    assert source(clone, PYTHON="").returncode == 0 and (clone / "log").read_text() == ""


def test_a_python_without_venv_is_refused_in_one_line(clone):
    result = source(clone, VENV="1")
    assert result.returncode == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "no ensurepip install it" in result.stderr
    assert source(clone).returncode == 0 and installed(clone) == [".[experiments]"]


def test_a_failed_installation_is_environment_errors_in_one_line_and_tried_again(clone):
    result = source(clone, PIP="1")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: pip could not install (ERROR: No matching distribution for torch; all")
    assert "20\n" in (clone / ".venv" / "pip.log").read_text()
    assert source(clone).returncode == 0 and installed(clone) == [".[experiments]"]
