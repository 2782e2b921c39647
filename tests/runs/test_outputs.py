"""A folder that a command writes: files of others stay, stale ones of its own go, half of an output never stays."""

import pytest

from experiments.config.errors import ConfigError
from experiments.runs.outputs import RECORD, check_output, written_as_one


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
