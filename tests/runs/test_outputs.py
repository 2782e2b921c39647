"""A folder that a command writes: files of others stay, stale ones of its own go, half of an output never stays."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from experiments.config.errors import ConfigError
from experiments.runs.outputs import RECORD, check_output, written_as_one
from tests.helpers.commands import run, start
from tests.helpers.synthetic import folders, tables


def write(output, *names: str, **options) -> None:
    with written_as_one(output, **options) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("ours")


def content(output) -> dict[str, str]:
    files = (path for path in output.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(output)): path.read_text() for path in files}


def test_stale_files_of_its_own_are_removed_and_others_stay(tmp_path):
    output = tmp_path / "new" / "thesis"
    write(output, "report.html", "figures/a.svg", "figures/b.svg")
    (output / "figures" / "photo.png").write_text("theirs")
    (output / "notes.md").write_text("theirs")
    write(output, "report.html", "figures/b.svg")
    theirs = {"figures/photo.png": "theirs", "notes.md": "theirs"}
    assert content(output) == {"report.html": "ours", "figures/b.svg": "ours", **theirs}


@pytest.mark.scorecard("R19", "an output folder with files of others: refused, and all is as it was")
@pytest.mark.parametrize("record", [None, "{", "[1]", '{"files": 5}', '{"files": ["../report.html"]}'])
def test_a_file_of_others_is_not_overwritten(record, tmp_path):
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "report.html").write_text("theirs")
    if record is not None:
        (output / RECORD).write_text(record)
    with pytest.raises(ConfigError, match=r"holds report\.html, which this command did not write; move it away"):
        check_output(output, ["report.html"])
    with pytest.raises(ConfigError, match=r"holds report\.html"):
        write(output, "claims.md", "report.html")
    assert content(output) == {"report.html": "theirs"}
    (tmp_path / "report.html").write_text("above")
    write(output, "claims.md")
    assert content(tmp_path)["report.html"] == "above"


def test_a_folder_of_before_the_record_is_known_by_its_files(tmp_path):
    (tmp_path / "provenance.json").write_text("{}")
    (tmp_path / "report.html").write_text("an earlier report")
    check_output(tmp_path, ["report.html"], known_by="provenance.json")
    write(tmp_path, "provenance.json", "report.html", known_by="provenance.json")
    assert content(tmp_path) == {"provenance.json": "ours", "report.html": "ours"}


@pytest.mark.scorecard("R19", "an error while an output folder is written: it is as before")
def test_half_an_output_does_not_stay(tmp_path):
    write(tmp_path / "old", "a")
    (tmp_path / "old" / "a").write_text("as it was")
    (tmp_path / "old" / ".written.999999999.partial").mkdir()  # of a process that was killed
    for output in (tmp_path / "old", tmp_path / "new" / "below"):
        with pytest.raises(OSError, match="No space"), written_as_one(output) as folder:
            (folder / "a").write_text("half")
            raise OSError("No space left on device")
    assert content(tmp_path) == {"old/a": "as it was"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == [RECORD, "a", "old"]


@pytest.mark.scorecard("R19", "commands killed -9 at random moments: their output is whole after the next start")
def test_a_killed_command_leaves_no_half_of_an_output(whole, trials, tmp_path, record_property):
    """One export; with --campaign every command that writes a folder, the report on made-up runs of an experiment."""
    one, made = next(path.parent.name for path in whole.glob("*/summary.json")), tmp_path / "runs"
    folders(*tables("quick", ("invariance",)), made)
    commands = {
        "export": [f"run={one}", f"runs_dir={whole}"],
        "inspect": [f"run={one}", f"runs_dir={whole}"],
        "compare": ["runs=train-*", f"runs_dir={whole}"],
        "report": [f"runs_dir={made}"],
    }
    campaign = trials["rounds"] > 1
    kills = 0
    for command in commands if campaign else ("export",):
        line = [f"experiments.{command}", *commands[command], f"output={tmp_path / command}"]
        kills += killed(line, tmp_path / command, trials["kills"] if campaign else 1)
    assert kills or not campaign, "every command had ended before it was killed"
    record_property("figure", f"{kills} kills; the same command again gives the whole output, and no leftover stays")


def killed(line: list[str], output: Path, times: int) -> int:
    """Return how many of so many starts of a command were killed before their end."""
    began = time.monotonic()
    assert run(*line).returncode == 0
    seconds, expected = time.monotonic() - began, files(output)
    generator, kills = random.Random(line[0]), 0
    for _ in range(times):
        shutil.rmtree(output)
        process = start(*line)
        time.sleep(generator.uniform(0.4, 1.0) * seconds)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert files(output).items() <= expected.items(), "half of a file"
        assert run(*line).returncode == 0
        assert files(output) == expected and not list(output.glob(".written.*.partial"))
    return kills


def files(output: Path) -> dict[str, bytes]:
    """Every file that a command wrote for the user, by its path; none of its own record, of wandb, of what is begun."""
    found = (path for path in output.rglob("*") if path.is_file() and path.name != RECORD)
    by_name = {str(path.relative_to(output)): path.read_bytes() for path in found}
    return {name: content for name, content in by_name.items() if ".partial" not in name and "wandb" not in name}
