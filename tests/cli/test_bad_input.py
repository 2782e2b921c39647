"""Every mistake of a user ends in one line with the remedy and exit code 2, before anything is written.

The table goes through the entry points' own main() in an empty working directory; a handful of real processes show that
this is what a user sees, and that what needs no torch is refused without it.
"""

import gzip
import importlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import data
from experiments.config.paths import CONFIGS, ROOT
from experiments.runs.identity import run_id
from tests.data.test_data import Payload
from tests.helpers.refusals import checked

LM, CNN, MLP = "model=lstm data=python_docs", "model=cnn data=digits", "model=mlp data=digits"
NOISY, TEXT, HUB = "model=cnn data=noisy_digits", "data=text_file data.path=t.txt", "data=hf_text data.path=set"

# What was typed after python -m experiments.train: what the line must say.
TYPED = {
    # keys and choices, and near misses of both
    "xx=1": "xx is unknown; nearest: ",
    "modle=lstm": "modle is unknown; nearest: model;",
    "norms=ln": "nearest: norm;",
    "lr=0.1": "lr is unknown; nearest: optim.lr;",
    "steps=8": "nearest: trainer.steps;",
    "batch_size=8": "nearest: data.batch_size;",
    "trainer.stps=5": "trainer.stps is unknown; nearest: trainer.steps;",
    "trainr.steps=5": "trainr is unknown; nearest: trainer;",
    "trainer={stps:5}": "trainer.stps is unknown; nearest: trainer.steps;",
    "-m trainer.stps=5,6": "nearest: trainer.steps;",
    "trainer.stps=5 plan=true": "nearest: trainer.steps;",
    "hydra.foo=1": "hydra.foo is no field of Hydra's",
    "model=lstmm": "model=lstmm is unknown; allowed: cnn, gru, image_gru, image_lstm, image_rnn, lstm, mlp, "
    "resnet20, rnn; nearest: lstm",
    "norm=LN": "nearest: ln",
    "-m model=lstmm,gru": "nearest: lstm",
    "experiment=conv_gian": "nearest: conv_gain",
    "experiment=conv_gain profile=quik": "nearest: quick",
    "-m hydra/launcher=joblb seed=0,1": "nearest: joblib",
    "schema/optim=sgd": "schema/optim is no group",
    "device=cpuu": "nearest: cpu",
    # a field of another choice
    "norm=ln norm.groups=2": "norm.groups is a field of norm=gn;",
    "model.width=8": "model.width is a field of model=cnn, model=resnet20;",
    # values: of another type, empty, null, missing, out of range
    "trainer.steps=many": "trainer.steps=many is not a whole number or null;",
    "model=5": "model=5 is no choice; give one of: cnn,",
    "norm=[ln,bn]": "norm=[ln,bn] is no choice;",
    "trainer.steps=": "trainer.steps= is empty;",
    "seed=": "seed= is empty;",
    "runs_dir=": "runs_dir= is empty;",
    "model=": "model= is empty; allowed: cnn,",
    "-m seed= norm=ln,bn": "seed= is empty;",
    "-m seed=1,,2": "'seed=1,,2' cannot be read",
    "optim.lr=null": "optim.lr=null is not a number;",
    "norm=null": "norm=null is no choice;",
    "-m optim.lr=null,0.1": "optim.lr=null is not a number;",
    "data=text_file": "data.path is missing; give it, as data.path=...",
    "seed=-1": "seed=-1 is out of range; give a whole number from 0 to 2147483647",
    "-m seed=0,-1": "seed=-1 is out of range",
    # what no machine holds
    "model.hidden_size=1000000000": "out of range; give a whole number from 1 to 1048576",
    # overrides that cannot be read or cannot be meant
    "x=[": "'x=[' cannot be read as an override; write key=value",
    "norm": "'norm' cannot be read",
    "norm=läyer": "cannot be read",
    "seed=${foo": "cannot be read",
    "--norm=ln": "unrecognized arguments: --norm=ln; a setting is written key=value without dashes",
    "--cfg jop": "invalid choice: 'jop'",
    "--config-dir=/nowhere": "--config-dir=/nowhere is no folder",
    "--config-name=trian": "there is no configuration trian.yaml",
    "norm=ln,bn": "norm=ln,bn gives several values; add -m",
    "norm=ln norm=bn": "norm is given twice, as norm=ln and norm=bn; give it once",
    "-m seed=1,2 seed=3": "seed is given twice",
    "+trainer.xx=1": "trainer.xx is unknown; nearest: trainer.",
    "+seed=1": "+seed=1 adds what is there already; write seed=1",
    "+model=gru": "write model=gru",
    "~seed": "~seed takes out what is needed",
    "~model": "~model takes out what is needed",
    "seed=${foo}": "Interpolation key 'foo' not found",
    "seed=${foo:1}": "Unsupported interpolation type foo",
    "seed=${seed}": "Recursive interpolation",
    "runs_dir=${oc.env:NOT_SET_AT_ALL}": "NOT_SET_AT_ALL",
    "optim.lr=${tuned_lr:}": "no tuned learning rate for lstm/ln/b32",
    # combinations
    "norm=bn data.batch_size=1": "norm=bn needs a batch of at least two",
    "-m model=cnn,lstm norm=ln,in data=python_docs": "choose data=",
    f"{CNN} data.batch_size=5000": "more than the 1197 training images",
    # sweeps and experiments
    "-m norm=glob(z*)": "this sweep has no run",
    "-m seed=range(3,3)": "this sweep has no run",
    "-m experiment=family_contrast": "run those of recurrent_gain and conv_gain",
    "experiment=family_contrast": "run those of recurrent_gain and conv_gain",
    "experiment=conv_gain,groups": "gives several values; add -m",
    "-m hydra/sweeper=basic seed=0,1": "leave it out",
    "-m norm=bn data.batch_size=${seed} seed=2,1": "norm=bn needs a batch of at least two",
    "-m experiment=conv_gain profile=full": "run python -m experiments.tune experiment=conv_gain profile=full",
    "experiment.name=a/b": "experiment.name=a/b is a part of a folder's name",
    "experiment.name=": "experiment.name= is empty",
    # places
    "runs_dir=file": "file is no writable folder (Not a directory)",
    "runs_dir=file/below": "file is no writable folder (Not a directory)",
    "runs_dir=/proc/runs": "/proc is no writable folder",
    "runs_dir=dangling/runs": "dangling is no writable folder",
    "runs_dir=loop/runs": "cannot be a folder",
    f"runs_dir={300 * 'a'}": "cannot be a folder (File name too long)",
    "data.cache=file": "the cache folder file cannot be written",
    f"{CNN.replace('digits', 'cifar10')}": "neither data.root nor LAYERNORM_DATA is set",
    "model=cnn data=cifar10 data.root=/nowhere": "is not in /nowhere (data.root); to get it: unpack",
    "model=cnn data=cifar10 data.root=file": "is not in file (data.root)",
    f"{TEXT}": "data.path=t.txt cannot be read (No such file or directory)",
    "data=text_file data.path=.": "is a folder or a device; name a text file",
    "data=text_file data.path=/dev/null": "is a folder or a device; name a text file",
    "data=text_file data.path=pipe": "is a folder or a device; name a text file",
    "data=hf_text data.path=./set": "there is no data.path=./set",
}

# More of the values and combinations, by the way that the runs of a sweep go.
COMPOSED = {
    # near misses, and fields that belong to another choice
    "model.placement=per_gates": "nearest: per_gate",
    "model.backend=fusd": "nearest: fused",
    "model.input=one_hot": "nearest: onehot",
    "model=image_lstm data=digits model.order=row": "nearest: rows",
    "optim.schedule=cosin": "nearest: cosine",
    "wandb.mode=ofline": "nearest: offline",
    "stage=finale": "nearest: final",
    "trainer.measure=[invarianc]": "nearest: invariance",
    "data.unit=words": "it comes as: char, word",
    "norm=none norm.gain=0.1": "norm.gain is a field of norm=bn, norm=gn,",
    "optim.momentum=0.9": "optim.momentum is a field of optim=sgd;",
    "model.name=cnn": "choose a whole, as model=cnn",
    "optim.name=lion": "those of adam; choose a whole, as optim=",
    "data.name=mnist": "choose the whole set with data=mnist",
    "model.kind=images": "model.kind=images cannot be set",
    # values: of another type, empty, null, missing, out of range
    "trainer.steps=1.5": "trainer.steps=1.5 is not a whole number or null;",
    "optim.lr=fast": "optim.lr=fast is not a number;",
    "trainer.statistics=maybe": "trainer.statistics=maybe is not true or false;",
    "seed=[1,2]": "seed=[1, 2] is not a whole number;",
    "trainer.measure=invariance": "trainer.measure=invariance is not a list",
    f"{MLP} model.hidden_sizes=[a]": "model.hidden_sizes[0]=a is not a whole number;",
    "trainer=5": "trainer=5 is no section; set its fields, as trainer.steps=...",
    "norm=gn norm.groups=two": "norm.groups=two is not of type int",
    "seed=null": "seed=null is not a whole number;",
    "norm.name=null": "has no name",
    "seed=???": "seed is missing; give it, as seed=...",
    "seed=2147483648": "out of range",
    "threads=0": "threads=0 is out of range",
    **{f"trainer.{name}=0": f"trainer.{name}=0 is out of range" for name in ("steps", "epochs", "examples")},
    "trainer.steps=-1": "from 1 to 2147483647",
    "trainer.evaluations=0": "out of range",
    "trainer.evaluations=1000000000000": "out of range",
    "trainer.log_every=0": "out of range",
    "trainer.checkpoint_every=-1": "out of range",
    **{f"optim.lr={value}": "optim.lr=" for value in ("0", "-1", "nan", "inf", "1e400")},
    "optim.beta1=1.5": "optim.beta1=1.5 is out of range",
    "optim=sgd optim.momentum=-1": "out of range",
    "optim.weight_decay=-1": "out of range",
    "optim.clip=0": "out of range",
    "optim.reference_batch=-32": "out of range",
    "optim.warmup_steps=-1": "out of range",
    "norm.eps=-1": "norm.eps=-1 is negative",
    "norm.eps=inf": "norm.eps=inf is not finite",
    "norm.gain=big": "norm.gain=big is not of type float",
    "norm=bn norm.momentum=7": "give 0 < norm.momentum <= 1",
    "model.dropout=1": "model.dropout=1.0 is out of range",
    "model.forget_bias=nan": "model.forget_bias=nan is not finite",
    "model=image_lstm data=digits model.state_noise=-1": "give 0 or more, as 0.1",
    f"{MLP} model.hidden_sizes=[-5]": "model.hidden_sizes=-5 is out of range",
    f"{CNN} model.depth=4": "choose 3, 6, 9, ...",
    "trainer.steps=5 trainer.epochs=1": "a run has one budget",
    # what no machine holds
    "model.hidden_size=1000000": "GB with gradients and optimiser, and this machine has",
    "model.num_layers=1000000": "from 1 to 1000",
    f"{CNN} model.depth=3000000": "from 1 to 1000",
    "data.batch_size=1000000000000000000000": "out of range",
    f"{NOISY} data.canvas=100000": "does not fit into memory",
    f"{NOISY} data.copies=1000000000": "does not fit into memory",
    "data.blocks=1000000000": "is more than the text's",
    # combinations
    "model=lstm norm=in": "norm=in is refused in a recurrent layer",
    "norm=gn norm.groups=7": "norm.groups=7 does not divide 128 channels",
    "norm=gn norm.groups=0": "norm.groups=0 does not divide",
    f"{CNN} norm=gn norm.groups=32": "does not divide 16 channels",
    f"{MLP} norm=gn model.norm_output=true": "does not divide 10 channels",
    f"{CNN} norm=bn data.batch_size=1": "norm=bn needs a batch of at least two",
    f"{MLP} norm=wn norm.data_init=true data.batch_size=1": "norm.data_init=true needs a batch of at least two",
    "norm=wn norm.data_init=true": "is for feed-forward layers",
    "model=gru model.placement=cell_only": "needs a cell state, which GRU lacks",
    "model.tied=true": "model.embedding_size equal to model.hidden_size",
    "model=lstm data=digits": "model=lstm takes text, data=digits holds images; choose data=",
    "model=cnn data=python_docs": "choose data=digits",
    "data.batch_size=100000": "more than the 4",
    "data.seq_len=1000000": "data.seq_len=1000000 needs one more than that",
    "model.backend=fused trainer.statistics=true": "use model.backend=auto",
    "trainer.measure=[invariance]": "choose model=mlp",
    f"{MLP} trainer.measure=[invariance] norm=in": "each statistic is of one value",
    f"{MLP} trainer.measure=[invariance] model.hidden_sizes=[]": "give one layer",
    f"{CNN} data.val=10 trainer.measure=[train_test_gap]": "10 validation examples make no batch of 128",
    "data.batch_size=1000 trainer.measure=[train_test_gap]": "validation examples make no batch of 1000",
    f"{CNN} data.val=0": "do not fit into 1797 examples",
    f"{CNN} data.val=-5": "do not fit into 1797 examples",
    f"{CNN} data.test=0": "data.test=0 leaves nothing to test on",
    f"{CNN} data.val=0.1": "data.val=0.1 is not a whole number",
    f"{CNN} data.train_examples=0": "train_examples=0",
    f"{CNN} data.pool=3": "nearest: 2",
    f"{NOISY} data.canvas=4": "give a larger data.canvas",
    f"{NOISY} data.contrast_low=2": "exchange them",
    f"{NOISY} data.noise=0 data.contrast_low=0 data.contrast_high=0": "nothing to tell images apart by",
    "data.val_blocks=[4] data.test_blocks=[4]": "must be different numbers in 0..19",
    "device=mps": "device=mps is not on this machine",
}

# The same for the other commands.
OTHERS = {
    "tune": {
        "": "nothing to tune; name an experiment",
        "experiment=conv_gian": "nearest: conv_gain",
        "experiment=conv_gain optim.lr=0.1": "give experiment.tune_lr=[...]",
        "experiment=conv_gain seed=3": "give experiment.tune_seeds=[...]",
        "experiment=conv_gain experiment.tune_metric=test/error": "tuning sees val/... alone",
        "-m experiment=conv_gain": "-m makes sweeps",
    },
    "report": {  # of one experiment, since each takes a tenth of a second to be composed
        "profle=quick": "nearest: profile;",
        "profile=quik": "nearest: quick",
        "profile=null": "profile=null is no choice",
        "-m profile=quick,standard": "-m makes sweeps",
        "rows=/nowhere profile.experiments=[train_test]": "rows=/nowhere has no runs.csv",
        "output=file": "file is no writable folder",
        "output=": "output= is empty",
        "profile.experiments=[conv_gian]": "nearest: conv_gain",
        "profile.experiments=[]": "nothing to report",
        "readme=maybe": "readme=maybe is not true or false",
    },
    "benchmark": {
        "size=[a]": "nearest: sizes;",
        "sizes=a": "sizes=a is not a list",
        "sizes=[z]": "allowed: tiny, d, a, c, b",
        "minutes=nan": "give both above 0",
        "output=file quick=true": "file is no writable folder",
        "rows=/nowhere": "has no benchmark.json",
    },
    "status": {"profle=quick": "nearest: profile;", "runs_dir=": "runs_dir= is empty"},
    "verify": {"runs_dri=x": "nearest: runs_dir;"},
}


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """told("train", "norm=lnn") is the line with which the command refuses; all else of a refusal is checked here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    (tmp_path / "file").write_text("a file")
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


@pytest.mark.parametrize("typed", TYPED)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(typed, told):
    assert TYPED[typed] in told("train", *typed.split())


@pytest.mark.parametrize("overrides", COMPOSED)
def test_a_configuration_that_cannot_be_is_told_in_one_line(overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert COMPOSED[overrides] in checked(overrides.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "typed"), [(module, typed) for module in OTHERS for typed in OTHERS[module]])
def test_a_mistake_of_another_command_is_told_alike(module, typed, told):
    assert OTHERS[module][typed] in told(module, *typed.split())


# -- Files -------------------------------------------------------------------------------------------------------------

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
def test_a_mistake_in_a_configuration_file_of_the_users_own(content, told, tmp_path):
    group, _, text = content.partition(": ")
    (tmp_path / "own" / group).mkdir(parents=True)
    (tmp_path / "own" / group / "mine.yaml").write_bytes(text.encode("latin1"))
    assert OWN_CONFIGS[content] in told("train", "--config-dir=own", f"{group}=mine")


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
def test_a_text_that_cannot_be_learnt_from(case, told, tmp_path):
    content, more, said = TEXTS[case]
    (tmp_path / "t.txt").write_bytes(content)
    assert said in told("train", *TEXT.split(), *more.split())


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
def test_a_set_of_ones_own_that_cannot_be_read(case, told, tmp_path):
    from pyarrow import parquet, table

    columns, more, said = HUB_SETS[case]
    (tmp_path / "set").mkdir()
    if columns is None:
        (tmp_path / "set" / "train.parquet").write_bytes(b"no")
    else:
        parquet.write_table(table(columns), tmp_path / "set" / "train.parquet")
    assert said in told("train", *HUB.split(), *more.split())


def test_a_loading_script_is_refused_and_not_run(told, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text("open('ran', 'w')")
    assert "scripts are no longer supported" in told("train", *HUB.split())


@pytest.mark.parametrize(
    "content",
    [b"hello, a text\n", gzip.compress(bytes(1000), mtime=0)[:-9], pickle.dumps(Payload("ran"))],
    ids=["text", "half a gzip", "pickle"],
)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_data_file_of_another_kind_is_refused_by_its_checksum(name, content, told, tmp_path):
    for file in data.SETS[name].files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    assert "is damaged or another edition (sha256 expected" in told("train", "model=cnn", f"data={name}", "data.root=.")


def rows_of(name: str) -> bytes:
    return (ROOT / "results" / "reference" / "quick" / name).read_bytes()


RUNS = rows_of("runs.csv")
HEADER, FIRST, *_ = RUNS.splitlines(keepends=True)
TABLES = {
    "empty": (b"", "damaged (No columns to parse from file)"),
    "no rows": (HEADER, "holds no run"),
    "a text": (b"hello\nworld\n", "has no column model, norm,"),
    "binary": (bytes(range(128, 256)) * 9, "is damaged"),
    "half": (RUNS[: len(RUNS) // 2 + 7], "is damaged in the column"),
    "a word for a number": (RUNS.replace(b",20,", b",x,", 1), "is damaged in the column seed"),
    "a row too long": (HEADER + FIRST + FIRST.rstrip() + b",1,2\n", "is damaged (Error tokenizing"),
    "half the curves": (RUNS, "curves.csv has no column"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_report_on_damaged_tables(case, told, tmp_path):
    runs, said = TABLES[case]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "runs.csv").write_bytes(runs)
    (tmp_path / "rows" / "curves.csv").write_bytes(b"run_id,step\n" if "curves" in case else rows_of("curves.csv"))
    assert said in told("report", "rows=rows", "profile.experiments=[train_test]")


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_benchmark_of_damaged_times(content, told, tmp_path):
    (tmp_path / "benchmark.json").write_text(content)
    assert "name another folder" in told("benchmark", "rows=.")


def test_a_file_where_the_runs_folder_has_to_be(told, tmp_path):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        name = run_id(compose("train", ["trainer.steps=2"]))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).write_text("a file")
    assert f"{name} is no writable folder (Not a directory)" in told("train", "trainer.steps=2", "runs_dir=runs")


# -- As a user sees it -------------------------------------------------------------------------------------------------


def process(folder: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess:
    """A command in a process of its own, in the folder."""
    start = ["-c", code] if code else ["-m"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.scorecard("R10", "a mistake of the user: one line, exit code 2, nothing written")
@pytest.mark.parametrize(
    "arguments",
    [
        "experiments.train norm=layer model=lstm",
        "experiments.train -m norm=ln,bn seed=0,-1",
        "experiments.train trainer.stps=5 plan=true",
        "experiments.train norm=bn data.batch_size=1",
        "experiments.train norm=gn norm.groups=7",
        "experiments.train runs_dir=/proc/runs",
        "experiments.tune experiment=conv_gain norm=gn norm.groups=7",
        "experiments.report rows=.",
        "experiments.benchmark sizes=[z]",
    ],
)
def test_a_process_says_one_line_and_leaves_nothing(arguments, tmp_path, record_property):
    began = time.monotonic()
    result = process(tmp_path, *arguments.split())
    record_property("figure", f"{arguments.partition(' ')[2]}: {time.monotonic() - began:.1f} s")
    assert result.returncode == 2 and result.stdout == "", result.stderr
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1, result.stderr
    assert list(tmp_path.iterdir()) == []


# The exit code of every mistake, and whether a module was imported by then
CODE = """
import sys
from hydra.core.global_hydra import GlobalHydra
from experiments.train import main
for typed in sys.argv[1:]:
    sys.argv = ["train", *typed.split()]
    GlobalHydra.instance().clear()
    try:
        main()
    except SystemExit as end:
        print(end.code, "{module}" in sys.modules)
"""
WITHOUT_TORCH = ["trainer.stps=5", "model=lstmm", "seed=-1", "optim.lr=nan", "norm=bn data.batch_size=1", "norm=ln,bn"]
WITHOUT_TORCH += ["model=cnn data=python_docs", "wandb.mode=ofline", "model.hidden_size=1000000000", "-m seed=0,-1"]


WITHOUT_COMPILER = ["norm=gn norm.groups=7", "model=cnn norm=gn norm.groups=7 data=digits", "model=lstm norm=in"]


def test_what_needs_a_model_is_refused_without_torchs_compiler(tmp_path):
    """Whose import takes as long as torch's own."""
    result = process(tmp_path, *WITHOUT_COMPILER, code=CODE.format(module="torch._dynamo"))
    assert result.stdout.splitlines() == ["2 False"] * len(WITHOUT_COMPILER), result.stderr


def test_what_needs_no_torch_is_refused_without_it(tmp_path):
    """An import of torch takes longer than all else of a refusal."""
    result = process(tmp_path, *WITHOUT_TORCH, code=CODE.format(module="torch"))
    assert result.stdout.splitlines() == ["2 False"] * len(WITHOUT_TORCH), result.stderr


def test_a_mistake_of_ours_is_not_told_as_the_users(tmp_path):
    """The control: what is raised below code of this repository keeps its traceback."""
    code = """
import sys
import experiments.train
def broken(cfg):
    raise ValueError("a bug")
import experiments.training.check
experiments.training.check.check_fields = broken
sys.argv = ["train", "norm=ln"]
experiments.train.main()
"""
    result = process(tmp_path, code=code)
    assert result.returncode == 1 and "Traceback" in result.stderr and "ValueError: a bug" in result.stderr
