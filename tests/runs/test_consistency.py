"""python -m experiments.verify, on whole run folders and on damaged ones."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from experiments.runs.consistency import run_problems, table_problems
from experiments.runs.folder import folders_in
from experiments.runs.records import read_rows
from experiments.runs.rows import collect
from tests.helpers.processes import folders


def test_a_whole_folder_is_verified(runs, cli):
    result = cli("verify", "rows=[]", f"runs_dir={runs}", runs=False)
    assert result.returncode == 0 and result.stdout.strip() == "2 runs and 0 tables: all as written", result.stdout


def flip(path):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def set_value(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def append(path, content):
    path.write_bytes(path.read_bytes() + content)


DAMAGES = {
    "last.pt is damaged": lambda run: flip(run / "last.pt"),
    "previous.pt is damaged": lambda run: flip(run / "previous.pt"),
    "its configuration, device and data are those of": lambda run: (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("weight_decay: 0.0", "weight_decay: 0.1")
    ),
    "config.yaml is damaged: it is no YAML of a run": lambda run: (run / "config.yaml").write_text("model: ["),
    "config.yaml is damaged: it holds ${...}": lambda run: (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("seed: 0", "seed: ${oc.env:HOME}")
    ),
    "a reference to another node": lambda run: (run / "config.yaml").write_text("a: &a [1]\nb: [*a, *a]\n"),
    "more than 30 sections in each other": lambda run: (run / "config.yaml").write_text("[" * 40_000),
    "config.yaml is damaged: trainer is missing": lambda run: (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("trainer:", "trainers:")
    ),
    "environment.json is missing": lambda run: (run / "environment.json").unlink(),
    "environment.json is damaged: device is 5": lambda run: set_value(run / "environment.json", device=5),
    "metrics.jsonl ends at step 35": lambda run: (run / "metrics.jsonl").write_text(
        "".join((run / "metrics.jsonl").read_text().splitlines(keepends=True)[:-1])
    ),
    "metrics.jsonl is damaged in line 9: it is no JSON": lambda run: append(run / "metrics.jsonl", b'{"st'),
    "metrics.jsonl is damaged in line 9: step is missing": lambda run: append(run / "metrics.jsonl", b"{}\n"),
    "metrics.jsonl lacks the row of step 5, 20": lambda run: (run / "metrics.jsonl").write_text(
        "".join(
            line
            for line in (run / "metrics.jsonl").read_text().splitlines(keepends=True)
            if json.loads(line)["step"] not in (5, 20)
        )
    ),
    "metrics.jsonl does not hold the rows that last.pt": lambda run: (run / "metrics.jsonl").write_text(
        (run / "metrics.jsonl").read_text().replace('"train/loss": ', '"train/loss": 1', 1)
    ),
    "steps of metrics.jsonl do not increase": lambda run: (run / "metrics.jsonl").write_text(
        2 * (run / "metrics.jsonl").read_text()
    ),
    "summary.json differs from the last row of metrics.jsonl in val/loss": lambda run: set_value(
        run / "summary.json", **{"val/loss": 0.0}
    ),
    "summary.json is missing": lambda run: (run / "summary.json").unlink(),
    "summary.json is damaged: it is no JSON": lambda run: (run / "summary.json").write_text("{"),
    "summary.json is of another run, another": lambda run: set_value(run / "summary.json", run_id="another"),
    "summary.json: not as written when the run ended": lambda run: set_value(
        run / "summary.json", **{"test/loss": 0.1}
    ),
    "status.json is missing": lambda run: (run / "status.json").unlink(),
    "status.json is damaged: it is [1], no object": lambda run: (run / "status.json").write_text("[1]"),
    "status.json is damaged: status is 'don'": lambda run: set_value(run / "status.json", status="don"),
    "its process died": lambda run: set_value(run / "status.json", status="running"),
    ".x.tmp was left": lambda run: (run / ".x.tmp").write_text(""),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_each_damage_is_reported(words, runs, capsys):
    damaged, other = folders(runs)
    DAMAGES[words](damaged.path)
    problems = run_problems(damaged)
    assert any(words in problem for problem in problems), problems
    assert not run_problems(other)


def test_damage_ends_the_command_with_1_and_rows_are_compared(runs, cli, tmp_path):
    rows, _, _ = collect([folder.run_id for folder in folders(runs)], runs)
    (tmp_path / "table").mkdir()
    table = tmp_path / "table" / "runs.csv"
    rows.to_csv(table, index=False)
    arguments = ["verify", f"runs_dir={runs}", f"rows=[{table}]"]
    result = cli(*arguments, runs=False)
    assert result.returncode == 0 and "2 runs and 1 tables: all as written" in result.stdout, result.stdout
    rows.loc[0, "test/error"] += 0.5
    rows.to_csv(table, index=False)
    flip(folders(runs)[1].path / "last.pt")
    result = cli(*arguments, runs=False)
    assert result.returncode == 1 and "differs from its summary.json in test/error" in result.stdout
    assert "last.pt is damaged" in result.stdout and result.stdout.strip().endswith("2 problems")


def test_a_table_is_compared_in_what_a_summary_has_and_in_its_metrics(runs, tmp_path):
    """Tables of several experiments have columns that a run lacks: a label is no problem, a number from nowhere is."""
    rows, _, _ = collect([folder.run_id for folder in folders(runs)], runs)
    for column, value, found in (("groups", "4", 0), ("test/bpc", "", 0), ("test/bpc", "1.5", len(rows))):
        rows.assign(**{column: value}).to_csv(tmp_path / "runs.csv", index=False)
        problems = table_problems(tmp_path / "runs.csv", runs)
        assert len(problems) == found and all(problem.endswith(f"in {column}") for problem in problems)


def test_a_folder_of_another_user_is_told_by_its_name_and_not_entered():
    outer = Path(tempfile.mkdtemp())  # not tmp_path, which lies in a folder that no other user may enter
    user = os.geteuid()
    try:
        outer.chmod(0o755)
        for name in ("train-lstm-ln-s0-01234567", "private"):
            (outer / name).mkdir(mode=0o700 if user == 0 else 0o000)
        if user == 0:
            os.seteuid(65534)  # root may read everything
        (folder,) = folders_in(outer)
        assert folder.run_id == "train-lstm-ln-s0-01234567"
        assert run_problems(folder) == ["its folder cannot be read (Permission denied)"]
    finally:
        os.seteuid(user)
        for path in outer.iterdir():
            path.chmod(0o700)
        shutil.rmtree(outer)


def test_an_empty_line_among_the_rows_is_no_broken_end(tmp_path):
    """Only a last line can have been cut off by a kill."""
    row = '{"step": 1, "examples": 1, "seconds": 1.0}'
    (tmp_path / "metrics.jsonl").write_text(f"{row}\n\n{row}\n\n\n")
    found = read_rows(tmp_path / "metrics.jsonl")
    assert found.damage.startswith("line 2: ") and not found.is_last
