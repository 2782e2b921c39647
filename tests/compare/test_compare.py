"""python -m experiments.compare on runs of one's own: statistics, notices, what is refused, what is written."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from experiments.compare import reading
from experiments.compare.comparison import compared
from experiments.compare.reading import read_runs
from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder, folders_in, write_json
from experiments.runs.outputs import RECORD
from experiments.runs.records import RunStatus
from tests.helpers.tiny_runs import TEXT, command, train

SEEDS = (0, 1, 2, 3)
FILES = {"compare.md", "compare.html", "differences.csv", "cells.csv", "runs.csv", "forest.svg", "curves.svg", RECORD}


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory) -> Path:
    """A sweep of one's own: norm x seq_len over four seeds."""
    folder = tmp_path_factory.mktemp("own") / "runs"
    text = [override for override in TEXT if not override.startswith("data.seq_len")]
    for norm in ("none", "ln"):
        for length in (6, 9):
            for seed in SEEDS:
                train(folder, "model=lstm", *text, f"norm={norm}", f"data.seq_len={length}", f"seed={seed}")
    return folder


@pytest.fixture
def copied(runs_dir, tmp_path) -> Path:
    return Path(shutil.copytree(runs_dir, tmp_path / "runs"))


def comparison(runs_dir: Path, *baseline: str, metric: str | None = None, patterns: tuple[str, ...] = ()):
    runs, notices = read_runs(list(patterns), str(runs_dir))
    return compared(runs, list(baseline), metric, notices)


def table(runs_dir: Path) -> pd.DataFrame:
    """The metric by cell and seed, read without the code that is tested."""
    rows = []
    for path in runs_dir.glob("*/summary.json"):
        row = json.loads(path.read_text())
        length = 6 if "seq_len: 6\n" in path.with_name("config.yaml").read_text() else 9
        rows.append({"norm": row["norm"], "length": length, "seed": row["seed"], "bpc": row["test/bpc"]})
    return pd.DataFrame(rows).pivot(index="seed", columns=["norm", "length"], values="bpc")


def of_run(runs_dir: Path, norm: str, seed: int) -> Path:
    return sorted(runs_dir.glob(f"train-lstm-{norm}-*-s{seed}-*"))[0]


# --- statistics -------------------------------------------------------------------------------------------------------


def test_the_differences_are_scipys_and_statsmodels(runs_dir):
    """Default: against norm:none, in the task's own metric on test data; seq_len is a further field."""
    found, values = comparison(runs_dir), table(runs_dir)
    assert (found.metric, found.columns, found.notices) == ("test/bpc", ["norm", "seq_len"], [])
    assert [one.where for one in found.differences] == ["seq len 6", "seq len 9"]
    tests = []
    for one, length in zip(found.differences, (6, 9), strict=True):
        test = stats.ttest_rel(values["ln", length], values["none", length])
        low, high = test.confidence_interval()
        tests.append(test.pvalue)
        np.testing.assert_allclose([one.interval.low, one.interval.high, one.p], [low, high, test.pvalue], rtol=1e-9)
        assert one.label == "LN - NONE" and one.pairs == 4 and len(one.runs) == 8
    corrected = multipletests(tests, method="holm")[1]
    np.testing.assert_allclose([one.p_holm for one in found.differences], corrected, rtol=1e-12)


def test_a_further_field_gives_the_difference_of_differences(runs_dir):
    """Does layer normalisation help more with longer sequences?"""
    [change] = comparison(runs_dir).interactions
    values = table(runs_dir)
    gains = [values["ln", length] - values["none", length] for length in (6, 9)]
    expected = stats.ttest_rel(gains[1], gains[0])
    assert change.label == "LN - NONE at seq len 9 less that at seq len 6" and change.where == ""
    np.testing.assert_allclose(change.mean, np.mean(gains[1] - gains[0]))
    np.testing.assert_allclose(change.p, expected.pvalue, rtol=1e-9)


def test_a_baseline_of_two_fields_is_one_cell(runs_dir):
    found = comparison(runs_dir, "norm:none", "seq_len:6", metric="val/loss")
    assert [one.label for one in found.differences] == [
        "seq len 9 - seq len 6",
        "LN - NONE",
        "LN, seq len 9 - NONE, seq len 6",
    ]
    assert found.interactions == [] and found.metric == "val/loss"


@pytest.mark.parametrize("seed", range(3))
def test_the_order_and_the_place_of_the_folders_do_not_matter(seed, runs_dir, tmp_path):
    """Spread over three folders, one of them runs_dir, named in any order and twice."""
    dice = random.Random(seed)
    places = [tmp_path / name for name in "abc"]
    for path in sorted(runs_dir.iterdir()):
        shutil.copytree(path, dice.choice(places) / path.name)
    patterns = [*map(str, places), f"{places[0]}/*"]
    dice.shuffle(patterns)
    spread, together = comparison(places[1], patterns=tuple(patterns)), comparison(runs_dir)
    assert spread.notices == [] and [cell.name for cell in spread.cells] == [cell.name for cell in together.cells]
    numbers = [
        [(one.label, one.where, one.by_seed, one.p_holm) for one in found.differences + found.interactions]
        for found in (spread, together)
    ]
    assert numbers[0] == numbers[1]


# --- notices ----------------------------------------------------------------------------------------------------------


def test_a_single_seed_is_shown_without_interval(runs_dir):
    found = comparison(runs_dir, patterns=("*-s2-*",))
    assert [one.interval for one in found.differences] == [None, None]
    assert [one.mean for one in found.differences] == pytest.approx(
        [table(runs_dir).loc[2, ("ln", n)] - table(runs_dir).loc[2, ("none", n)] for n in (6, 9)]
    )
    assert found.notices == [
        "All differences rest on one seed: they have no interval, which takes two pairs; train more seeds, as "
        "seed=0,1,2,3,4 with -m."
    ]


def test_diverged_and_unfinished_runs_are_told(copied):
    lost, unfinished = of_run(copied, "ln", 0), of_run(copied, "none", 1)
    summary = json.loads((lost / "summary.json").read_text())
    write_json(lost / "summary.json", summary | {"status": "diverged", "diverged_at": 2})
    RunFolder(copied, lost.name).set_status(RunStatus.DIVERGED)
    (unfinished / "summary.json").unlink()
    RunFolder(copied, unfinished.name).set_status(RunStatus.INTERRUPTED, message="stopped")
    found = comparison(copied)
    assert sorted(one.pairs for one in found.differences + found.interactions) in ([2, 2, 4], [2, 3, 3])
    assert sum(one.diverged for one in found.differences) == 1
    notices = "\n".join(found.notices)
    assert "1 of 16 runs are left out, since they have no result: 1 interrupted" in notices
    assert "1 of 4 runs diverged (seeds 0); the pairs that remain flatter it" in notices


def test_what_goes_with_the_cells_is_told(copied):
    """A rate that was chosen for each normaliser, runs of two commits, and data of another version."""
    for path in copied.glob("*-ln-*"):
        config = path / "config.yaml"
        config.write_text(config.read_text().replace("  lr: 0.003\n", "  lr: 0.01\n"))
        environment = json.loads((path / "environment.json").read_text())
        environment["data"]["preparation"] += 1
        write_json(path / "environment.json", environment | {"git": "f" * 40, "dirty": False})
        status = RunFolder(copied, path.name)
        status.set_status(RunStatus.DONE)
    found = comparison(copied)
    assert found.columns == ["norm", "seq_len"] and [one.pairs for one in found.differences] == [4, 4]
    assert any(line.startswith("content, lr go with the cells") for line in found.notices), found.notices
    assert any("of 2 commits" in line and "ffffffffffff (8 runs)" in line for line in found.notices), found.notices


def test_two_runs_of_one_cell_and_seed_count_once(runs_dir, tmp_path):
    other = tmp_path / "elsewhere" / of_run(runs_dir, "ln", 0).name
    shutil.copytree(of_run(runs_dir, "ln", 0), other)
    found = comparison(runs_dir, patterns=("train", str(tmp_path / "elsewhere")))
    assert [one.pairs for one in found.differences] == [4, 4] and len(found.notices) == 1
    assert "is left out" in found.notices[0] and "of the same cell and seed" in found.notices[0]


# --- what is refused --------------------------------------------------------------------------------------------------

MISTAKES = {
    "runs=trian": "matches none of the 16 runs",
    "runs=train-gru*": "nearest: train-lstm-",
    "baseline=nrom:none": "no run has a field nrom; nearest: norm",
    "baseline=norm:bn": "no run has norm=bn; there are: ln, none; nearest: ln",
    "baseline=norm": "baseline=norm is no field:value; give norm:ln|none or seq_len:6|9",
    "baseline=optim.clip:1": "is true of all 16 runs; give norm:ln|none or seq_len:6|9",
    "baseline=[norm:none,norm:ln]": "gives norm.name a second value",
    "metric=test/bpx": "nearest: test/bpc",
    "runs=*-ln-*-s0-*": "baseline= is missing; give a field and the value of one side, as seq_len:6|9",
    "runs=*-none-*": "baseline= is missing",
    "output=/proc/compare": "no writable folder",
    "base=norm:none": "nearest: baseline",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(typed, runs_dir, tmp_path):
    output = [] if typed.startswith("output=") else [f"output={tmp_path / 'out'}"]
    done = command("compare", f"runs_dir={runs_dir}", typed, *output)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and MISTAKES[typed] in done.stderr
    assert not (tmp_path / "out").exists()


def test_runs_that_have_no_partner_are_refused(runs_dir):
    alone = [path.name for path in runs_dir.glob("*-s0-*")]
    by_length = {6: [], 9: []}
    for name in alone:
        by_length[6 if "seq_len: 6\n" in (runs_dir / name / "config.yaml").read_text() else 9].append(name)
    [plain] = [name for name in by_length[6] if "-none-" in name]
    [other] = [name for name in by_length[9] if "-ln-" in name]
    found = comparison(runs_dir, patterns=(plain, other))
    assert found.columns == ["norm"] and "seq_len goes with the cells" in found.notices[0]
    with pytest.raises(ConfigError, match="there is no run in"):
        comparison(runs_dir / "nowhere")


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_command_writes_tables_figures_and_a_page(runs_dir, tmp_path):
    """Into a folder that it marks as its own: a second call replaces the files, one of another's is refused."""
    output = tmp_path / "out"
    arguments = [f"runs_dir={runs_dir}", "runs=train-lstm", "baseline=norm:none", f"output={output}"]
    done = command("compare", *arguments)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "16 runs in 4 cells (norm, seq_len), 4 seeds." in done.stdout and "LN - NONE" in done.stdout
    assert set(os.listdir(output)) == FILES
    differences = pd.read_csv(output / "differences.csv")
    assert list(differences["kind"]) == ["difference", "difference", "interaction"]
    ids = {run_id for line in differences["run_ids"] for run_id in line.split()}
    assert ids == {path.name for path in runs_dir.iterdir()} == set(pd.read_csv(output / "runs.csv")["run_id"])
    page = (output / "compare.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "") and page.count("<svg") == 2
    text = (output / "compare.md").read_text()
    assert "| LN - NONE | seq len 6 | 4 |" in text and text.splitlines()[0].endswith(", compared with NONE")
    (output / "forest.svg").unlink()
    assert command("compare", *arguments).returncode == 0 and set(os.listdir(output)) == FILES
    (output / RECORD).unlink()
    refused = command("compare", *arguments)
    assert refused.returncode == 2 and "which this command did not write" in refused.stderr


def test_a_report_says_first_that_it_is_not_about_the_users_runs(runs_dir, tmp_path):
    done = command(
        "report", f"runs_dir={runs_dir}", f"output={tmp_path / 'report'}", "profile.experiments=[train_test]"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"warning: {runs_dir} holds 16 finished runs that this report is not about")
    assert "from results/reference/quick, the committed rows, none of your own" in done.stdout.splitlines()[0]


def test_a_cell_that_diverged_before_its_first_evaluation_has_no_curve(copied, tmp_path):
    for seed in SEEDS:
        path = of_run(copied, "ln", seed)
        (path / "metrics.jsonl").write_text("")
        with (folder := RunFolder(copied, path.name)).lock():
            write_json(path / "summary.json", {**folder.summary, "status": "diverged", "diverged_at": 1})
            folder.set_status(RunStatus.DIVERGED)
    done = command("compare", f"runs_dir={copied}", "baseline=norm:none", f"output={tmp_path / 'out'}")
    assert done.returncode == 0 and "diverged" in done.stdout, done.stderr


def test_a_folder_with_brackets_is_one(copied, tmp_path):
    place = copied.rename(tmp_path / "my[1]")
    done = command("compare", f"runs={place}", "baseline=norm:none", f"output={tmp_path / 'out'}")
    assert done.returncode == 0 and "16 runs in 4 cells" in done.stdout, done.stderr


def test_verify_takes_the_written_table_for_one_of_these_runs(runs_dir, tmp_path):
    """It has columns beside those of a summary."""
    output = tmp_path / "out"
    assert command("compare", f"runs_dir={runs_dir}", "baseline=norm:none", f"output={output}").returncode == 0
    done = command("verify", f"runs_dir={runs_dir}", f"rows=[{output}/runs.csv]")
    assert done.returncode == 0 and "16 runs and 1 tables: all as written" in done.stdout, done.stdout


def test_the_folder_of_runs_is_read_once_for_any_number_of_names(runs_dir, monkeypatch):
    """A shell's * gives a name for each run; with ten thousand of them each reading takes a second."""
    names, read = sorted(path.name for path in runs_dir.iterdir()), []
    monkeypatch.setattr(reading, "folders_in", lambda folder: read.append(folder) or folders_in(folder))
    assert [folder.run_id for folder in reading.folders_of(names, str(runs_dir))] == names
    assert len(read) == 1
