"""Closed and narrow streams, full disks, odd paths: one line, and the right exit code."""

import errno
import os
import re
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.cli.surroundings import environment_errors_in_one_line
from experiments.cli.typed_paths import typed_paths
from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder
from tests.helpers.commands import ROOT

ODD = ["text (1).txt", "k=v", "it's", "a#b", "a&b", "[a].txt", "{a}.txt", "a~b", "a!", 'say "so"', "a,b", "100%", "a@b"]
ODD += [
    "a$b",
    "a:b",
    "two words",
    " ends with one ",
    "träume.txt",
    "介绍.txt",
    "a'b\"c",
    "(",
    "]",
    "a\\b",
    "*",
    "a;b|c",
]
ODD += ["5", "1e-3", "true", "a\\"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("field", ["data.path", "runs_dir"])
def test_a_path_is_taken_as_it_is_typed(field, name):
    """Also with the quotes that Hydra asks for, as older commands have them."""
    given = [f"{field}={name}"]
    if not set(name) & set("\"'\\"):
        given.append(f'{field}="{name}"')
    for override in OverridesParser.create().parse_overrides(typed_paths(given)):
        assert str(override.value()) == name


def test_home_is_expanded_in_every_path_and_nobodys_is_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me (1)")
    for typed in ("runs_dir=~/runs", 'runs_dir="~/runs"', "output=~/runs", "data.root='~/runs'"):
        [override] = OverridesParser.create().parse_overrides(typed_paths([typed]))
        assert override.value() == "/home/me (1)/runs"
    with pytest.raises(ConfigError, match="there is no home folder ~nosuchuser; write the path out"):
        typed_paths(["runs_dir=~nosuchuser/runs"])


def test_sweeps_lists_and_defaults_stay_hydras():
    for typed in (["-m", "data.path=a.txt,b.txt"], ["rows=[a,b]"], ["data.root=null"], ["norm=ln"], ["runs_dir="]):
        assert typed_paths(typed) == typed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), "error: a.csv: No space left on device; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), "error: b: Permission denied; name a place"),
        (OSError(errno.EROFS, "Read-only file system"), "error: Read-only file system; name a place"),
        (MemoryError(), "error: there is not enough memory"),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "no"), r"error: '\xfc' cannot be written in this locale (ascii)"),
    ],
)
def test_an_error_of_the_surroundings_is_one_line(error, said, capsys, monkeypatch):
    monkeypatch.setattr("experiments.cli.surroundings.drop_output", lambda *_: None)
    with pytest.raises(SystemExit) as end, environment_errors_in_one_line():
        raise error
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(said) and end.value.code == 1


def test_another_error_stays_what_it_is():
    with pytest.raises(FileNotFoundError), environment_errors_in_one_line():
        raise FileNotFoundError(errno.ENOENT, "No such file")


@pytest.fixture
def runs_dir(tmp_path):
    folder = RunFolder(tmp_path / "Läufe (1)", "run")
    with folder.lock():
        folder.set_status("failed", message="ü ✓")
    return folder.path.parent


def status(runs_dir, redirection: str, **environment) -> subprocess.CompletedProcess:
    """python -m experiments.status, started by a shell that redirects its streams."""
    line = f'exec "{sys.executable}" -m experiments.status "runs_dir={runs_dir}" {redirection}'
    options = {"cwd": ROOT, "env": os.environ | environment, "capture_output": True, "timeout": 120}
    return subprocess.run(["sh", "-c", line], **options)


@pytest.mark.scorecard("R20", "streams that are closed, full or of another encoding: one line, the right exit code")
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("> /dev/full", 1, "error: No space left on device; make room"),
        (">&-", 0, ""),
        ("<&- 2>&-", 0, ""),
        ("", 0, ""),
    ],
)
def test_streams_that_are_closed_full_or_without_the_symbols(redirection, code, said, runs_dir):
    result = status(runs_dir, redirection, PYTHONIOENCODING="ascii")
    assert result.returncode == code, result.stderr
    assert result.stderr.decode().startswith(said) and result.stderr.count(b"\n") == (1 if said else 0), result.stderr
    assert redirection not in ("", "<&- 2>&-") or b"? ?" in result.stdout


def test_a_locale_without_the_symbols_of_a_path_is_one_line(runs_dir):
    result = status(runs_dir, "", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert b"Traceback" not in result.stderr and result.stderr.count(b"\n") <= 1, result.stderr


def test_every_text_file_is_read_and_written_as_utf_8():
    """Whatever the locale is."""
    opened = re.compile(r"\.(read_text|write_text)\((?!.*encoding=)|(?<![\w.])open\((?!.*(encoding=|\"[rwa]b\"))")
    for package in ("experiments", "data", "models"):
        for path in (ROOT / package).rglob("*.py"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not opened.search(line.partition("#")[0]), f"{path}:{number}"


def test_status_of_a_profile_names_what_is_not_tuned_and_takes_its_seeds(cli):
    """So that a profile of which a part is tuned has a status."""
    untuned = cli("status", "profile=full", "only=draw")
    assert untuned.returncode == 0 and untuned.stdout.startswith("draw: not tuned yet; python -m experiments.tune ")
    fresh = cli("status", "profile=quick", "only=train_test", "profile.first_seed=40")
    assert fresh.returncode == 0 and "-s40-" in fresh.stdout and "-s20-" not in fresh.stdout


def test_tuning_hands_the_settings_of_the_launcher_on(cli):
    plan = cli("tune", "experiment=conv_gain", "plan=true", "hydra/launcher=joblib", "hydra.launcher.n_jobs=3")
    assert plan.returncode == 0 and "3 at a time" in plan.stdout, plan.stdout + plan.stderr
