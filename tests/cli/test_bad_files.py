"""Every file of the user's that cannot be read is refused in one line: configurations, data, tables of results."""

import csv
import gzip
import io
import pickle

import pytest

import data
from experiments.config.paths import ROOT
from experiments.runs.identity import run_id
from tests.helpers.configs import composed
from tests.helpers.refusals import Payload

TEXT, HUB = "data=text_file data.path=t.txt", "data=hf_text data.path=set"

GLOBAL = "# @package _global_\n"
OWN_CONFIGS = {
    "norm: name: ln\n  eps: [1\n": "norm/mine.yaml, line 2: not valid YAML",
    "norm: name: ln\nname: bn\n": "line 2: not valid YAML (found duplicate key name)",
    "norm: name: \xff\n": "a configuration file is not UTF-8",
    "norm: - a\n": "has no name; choose norm=ln, or give your file the line name: ln",
    "norm: eps: 1.0\n": "has no name",
    "norm: name: mine\n": "norm=mine is unknown; allowed: none, bn,",
    f"experiment: {GLOBAL}trainer: {{stps: 5}}\n": "experiment/mine.yaml: trainer.stps is unknown",
    f"experiment: {GLOBAL}trainer: {{steps: many}}\n": "experiment/mine.yaml: trainer.steps=many is not a whole number",
    f"experiment: {GLOBAL}xyz: 1\n": "experiment/mine.yaml: xyz is unknown",
    f"experiment: {GLOBAL}defaults: [override /norm: lm]\n": "norm=lm is unknown",
    f"experiment: {GLOBAL}defaults: {{override /norm: ln}}\n": "defaults must be a list",
    f"experiment: {GLOBAL}seed: ${{nope}}\n": "seed: Interpolation key 'nope' not found",
    f"experiment: {GLOBAL}experiment: {{axes: {{groups: norm.grops}}}}\n": "nearest: norm.groups",
    f"experiment: {GLOBAL}experiment: {{claims: [{{id: a}}]}}\n": "experiment.claims[0].statement is missing",
    f"experiment: {GLOBAL}experiment: {{claims: [{{id: a, statement: b, stated: c, kind: d}}]}}\n": "kind=d is unknown",
}


@pytest.mark.parametrize("content", OWN_CONFIGS, ids=lambda content: content.replace(GLOBAL, ""))
def test_a_mistake_in_a_configuration_file_of_the_users_own(content, refusal, tmp_path):
    group, _, text = content.partition(": ")
    (tmp_path / "own" / group).mkdir(parents=True)
    (tmp_path / "own" / group / "mine.yaml").write_bytes(text.encode("latin1"))
    assert OWN_CONFIGS[content] in refusal("train", "--config-dir=own", f"{group}=mine")


TEXTS = {
    "not UTF-8": (b"caf\xe9 " * 5000, "", "is not UTF-8 text (byte 3); convert it first"),
    "UTF-16": (("abc " * 5000).encode("utf-16"), "", "is not UTF-8 text (byte 0)"),
    "packed": (gzip.compress(b"abc " * 5000, mtime=0), "", "is not UTF-8 text (byte 1)"),
    "a byte order mark": (b"\xef\xbb\xbfabc " * 5000, "", "starts with a byte order mark; cut it off"),
    "half a symbol": (b"abc\xed\xa0\x80 " * 5000, "", "is not UTF-8 text (byte 3)"),
    "one symbol": (b"a" * 50_000, "", "there is nothing to predict"),
    "empty": (b"", "", "has 0 symbols"),
    "short": (b"short\n" * 20, "", "give a longer text"),
    "another unit": (b"abc def\n" * 3000, "data.unit=pixel", "it comes as: char, word"),
    "no validation": (b"abc def\n" * 3000, "data.val=0", "both above 0 and together below 1"),
    "a negative part": (b"abc def\n" * 3000, "data.test=-0.1", "both above 0 and together below 1"),
    "no training": (b"abc def\n" * 3000, "data.val=0.5 data.test=0.5", "both above 0 and together below 1"),
    "hardly any training": (b"abc def\n" * 3000, "data.val=0.999 data.test=0.0005", "the train split has"),
    "a part of nothing": (b"abc def\n" * 3000, "data.val=1e-9", "the val split has 0 symbols"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_that_cannot_be_learnt_from(case, refusal, tmp_path):
    content, more, said = TEXTS[case]
    (tmp_path / "t.txt").write_bytes(content)
    assert said in refusal("train", *TEXT.split(), *more.split())


@pytest.mark.parametrize("content", [b"abc\0def " * 5000, b"abc def\r\n" * 5000, "abc\U0001f600 ".encode() * 5000])
def test_odd_symbols_are_symbols_like_others(content, tmp_path):
    (tmp_path / "t.txt").write_bytes(content)
    loaded = data.load(data.settings.TextFile(path=str(tmp_path / "t.txt"), unit="char"))
    assert loaded.vocabulary == sorted(set(content.decode()))


HUB_SETS = {
    "another column": ({"text": ["a line"] * 99}, "data.column=txt", "has no column 'txt'; the nearest is 'text'"),
    "numbers": ({"text": list(range(99))}, "", "does not hold text"),
    "another configuration": ({"text": ["a line"] * 99}, "data.config=foo", "BuilderConfig 'foo' not found"),
    "empty lines": ({"text": [""] * 9}, "", "give a longer text"),
    "no parquet": (None, "", "cannot be read as a data set"),
}


@pytest.mark.parametrize("case", HUB_SETS)
def test_a_set_of_ones_own_that_cannot_be_read(case, refusal, tmp_path):
    from pyarrow import parquet, table

    columns, more, said = HUB_SETS[case]
    (tmp_path / "set").mkdir()
    if columns is None:
        (tmp_path / "set" / "train.parquet").write_bytes(b"no")
    else:
        parquet.write_table(table(columns), tmp_path / "set" / "train.parquet")
    assert said in refusal("train", *HUB.split(), *more.split())


def test_a_loading_script_is_refused_and_not_run(refusal, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text("open('ran', 'w')")
    assert "scripts are no longer supported" in refusal("train", *HUB.split())


@pytest.mark.parametrize(
    "content",
    [b"hello, a text\n", gzip.compress(bytes(1000), mtime=0)[:-9], pickle.dumps(Payload("ran"))],
    ids=["text", "half a gzip", "pickle"],
)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_data_file_of_another_kind_is_refused_by_its_checksum(name, content, refusal, tmp_path):
    for file in data.SETS[name].files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    assert "is damaged or another edition (sha256 expected" in refusal(
        "train", "model=cnn", f"data={name}", "data.root=."
    )


def rows_of(name: str) -> bytes:
    return (ROOT / "results" / "reference" / "quick" / name).read_bytes()


RUNS = rows_of("runs.csv")


def rewritten(column: str, value: str, table: bytes = RUNS) -> bytes:
    """The table with this value in the first row."""
    first, *rows = csv.DictReader(io.StringIO(table.decode()))
    out = io.StringIO()
    writer = csv.DictWriter(out, first)
    writer.writeheader()
    writer.writerows([{**first, column: value}, *rows])
    return out.getvalue().encode()


HEADER, FIRST, *_ = RUNS.splitlines(keepends=True)
TABLES = {
    "empty": (b"", "damaged (No columns to parse from file)"),
    "no rows": (HEADER, "holds no run"),
    "a text": (b"hello\nworld\n", "has no column model, norm,"),
    "binary": (bytes(range(128, 256)) * 9, "is damaged"),
    "half": (RUNS[: len(RUNS) // 2 + 7], "is damaged in the column"),
    "a word for a number": (RUNS.replace(b",20,", b",x,", 1), "is damaged in the column seed"),
    "no stage": (RUNS.replace(b",stage,", b",stages,", 1), "has no column stage"),
    "a comma for a point": (rewritten("test/error", "2,4"), "is damaged in the column test/error"),
    "a word for true or false": (rewritten("dirty", "perhaps"), "is damaged in the column dirty"),
    "no profile": (rewritten("profile", ""), "is damaged in the column profile"),
    "a word for a loss": (RUNS, "curves.csv is damaged in the column val/loss"),
    "a row too long": (HEADER + FIRST + FIRST.rstrip() + b",1,2\n", "is damaged (Error tokenizing"),
    "joined": (RUNS + b"".join(RUNS.splitlines(keepends=True)[1:]), "more than once; leave each run one row"),
    "half the curves": (RUNS, "curves.csv has no column"),
    "half the gradients": (RUNS, "gradients.csv has no column lag, norm"),
    "a word for a gradient": (RUNS, "gradients.csv is damaged in the column lag or norm"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_report_on_damaged_tables(case, refusal, tmp_path):
    runs, said = TABLES[case]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "runs.csv").write_bytes(runs)
    curves = b"run_id,step\n" if "curves" in case else rows_of("curves.csv")
    if case == "a word for a loss":
        curves = rewritten("val/loss", "abc", rows_of("curves.csv"))
    (tmp_path / "rows" / "curves.csv").write_bytes(curves)
    if "gradient" in case:
        row = "run_id,moment\na,b\n" if "half" in case else "run_id,moment,lag,norm\na,b,1,x\n"
        (tmp_path / "rows" / "gradients.csv").write_text(row)
    assert said in refusal("report", "rows=rows", "profile.experiments=[train_test]")


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_benchmark_of_damaged_times(content, refusal, tmp_path):
    (tmp_path / "benchmark.json").write_text(content)
    assert "name another folder" in refusal("benchmark", "rows=.")


def test_a_file_where_the_runs_folder_has_to_be(refusal, tmp_path):
    name = run_id(composed("trainer.steps=2"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).write_text("a file")
    assert f"{name} is no writable folder (Not a directory)" in refusal("train", "trainer.steps=2", "runs_dir=runs")
