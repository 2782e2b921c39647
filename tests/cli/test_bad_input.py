"""Every mistake on a command line ends in one line with the remedy and exit code 2, before anything is written.

The table goes through the commands' own main() in an empty working directory; a handful of real processes show that
this is what a user sees, and that what needs no torch is refused without it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.config.paths import ROOT

CNN, TEXT = "model=cnn data=digits", "data=text_file data.path=t.txt"

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
    "model=lstmm": "model=lstmm is unknown; allowed: attentive_reader, cnn, draw, gru, handwriting, image_gru, "
    "image_lstm, image_rnn, lstm, mlp, order_embedding, resnet20, rnn, skip_thoughts; nearest: lstm",
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
    "model=5": "model=5 is no choice; give one of: attentive_reader, cnn,",
    "norm=[ln,bn]": "norm=[ln,bn] is no choice;",
    "trainer.steps=": "trainer.steps= is empty;",
    "seed=": "seed= is empty;",
    "runs_dir=": "runs_dir= is empty;",
    "model=": "model= is empty; allowed: attentive_reader, cnn,",
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
    "--config-path=/tmp": "--config-path=/tmp would replace configs/",
    "experiment=../experiment/conv_gain": "experiment=../experiment/conv_gain is unknown; allowed: attentive_reader,",
    "-m experiment=conv_gain,conv_gain/quick": "experiment=conv_gain/quick is unknown",
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
    # sweeps that would not end
    "-m seed=0,1 hydra.sweeper.max_batch_size=0": "max_batch_size=0 launches nothing; give 1 or more",
    "-m seed=0,1 hydra.sweeper.max_batch_size=-1": "max_batch_size=-1 launches nothing; give 1 or more",
    "-m seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=0": "n_jobs=0 runs nothing; give 1 or more",
    "-m seed=0,1 hydra/launcher=submitit_slurm hydra.launcher.array_parallelism=0": "array_parallelism=0 runs nothing",
    "-m experiment=conv_gain experiment.grids=[] norm=glob(z*)": "this sweep has no run",
    "-m model=lstm experiment.without=[x]": "experiment.without=x is no claim; allowed: ; nearest: none",
    "-m seed=0,1 known=/nowhere": "known=/nowhere has no runs.csv; name a folder that a report wrote",
    "experiment=recurrent_gain plan=Yes": "a plan is of a whole grid; write it as plan=true",
    "known=file": "known=file leaves runs out of a sweep, and this is one run; add -m",
    "-m seed=0,1 known=file": "known=file is no table of runs; name a folder that a report wrote",
    "-m seed=0,1 hydra.job.chdir=true": "hydra.job.chdir=true moves every run to another folder",
    "hydra.job.chdir=true": "hydra.job.chdir=true moves every run to another folder",
    "-m seed=range(1,1000000000) norm=ln,bn": "these are 1,999,999,998 runs; a sweep has 100,000 at most",
    "-m norm=bn data.batch_size=${seed} seed=2,1": "norm=bn needs a batch of at least two",
    "-m experiment=conv_gain profile=full": "run python -m experiments.tune experiment=conv_gain profile=full",
    "experiment.name=a/b": "experiment.name=a/b is a part of a folder's name",
    "experiment.name=": "experiment.name= is empty",
    # places
    "runs_dir=file": "file is no writable folder (Not a directory)",
    "runs_dir=file/below": "file is no writable folder (Not a directory)",
    "runs_dir=/proc/runs": "/proc is no writable folder",
    "runs_dir=dangling/runs": "dangling is no writable folder",
    "hydra.searchpath=[pkg://nosuch]": "hydra.searchpath names nosuch, which is not there",
    "runs_dir=loop/runs": "cannot be a folder",
    f"runs_dir={300 * 'a'}": "cannot be a folder (File name too long)",
    "data.cache=file": "the cache folder file cannot be written",
    f"{CNN.replace('digits', 'cifar10')}": "neither data.root nor LAYERNORM_DATA is set",
    "model=cnn data=cifar10 data.root=/nowhere": "is not in /nowhere (data.root); to get it: run python -m data.fetch",
    "model=cnn data=cifar10 data.root=file": "is not in file (data.root)",
    f"{TEXT}": "data.path=t.txt cannot be read (No such file or directory)",
    "data=text_file data.path=.": "is a folder or a device; name a text file",
    "data=text_file data.path=/dev/null": "is a folder or a device; name a text file",
    "data=text_file data.path=pipe": "is a folder or a device; name a text file",
    "data=hf_text data.path=./set": "there is no data.path=./set",
}

# The same for the other commands.
OTHERS = {
    "tune": {
        "": "nothing to tune; name an experiment",
        "experiment=conv_gian": "nearest: conv_gain",
        "experiment=conv_gain optim.lr=0.1": "give experiment.tune_lr=[...]",
        "experiment=conv_gain seed=3": "give experiment.tune_seeds=[...]",
        "experiment=conv_gain norm=ln": "norm=ln: tuning writes the rates of every cell of the grid; leave norm out",
        "experiment=conv_gain experiment.tune_metric=test/error": "tuning sees val/... alone",
        "-m experiment=conv_gain": "-m makes sweeps",
    },
    "report": {  # of one experiment, since each takes a tenth of a second to be composed
        "profle=quick": "nearest: profile;",
        "profile=quik": "nearest: quick",
        "profile=null": "profile=null is no choice",
        "-m profile=quick,standard": "-m makes sweeps",
        "rows=/nowhere profile.experiments=[train_test]": "rows=/nowhere has no runs.csv",
        "rows=a known=b profile.experiments=[train_test]": "rows= is a report from rows alone, known= adds rows",
        "known=/nowhere profile.experiments=[train_test]": "known=/nowhere has no runs.csv",
        "output=file": "file is no writable folder",
        "output=": "output= is empty",
        "output=thesis": "holds claims.md, which this command did not write",
        "profile.experiments=[conv_gian]": "nearest: conv_gain",
        "profile.experiments=[]": "nothing to report",
        "readme=maybe": "readme=maybe is not true or false",
    },
    "benchmark": {
        "size=[a]": "nearest: sizes;",
        "sizes=a": "sizes=a is not a list",
        "sizes=[z]": "allowed: 16, 128, 256, 512, 650",
        "sizes=[16] readme=true": "readme=true needs the times of size 256",
        "minutes=nan": "give minutes >= 0 and max_rounds >= 1",
        "output=file quick=true": "file is no writable folder",
        "rows=/nowhere": "has no benchmark.json",
    },
    "status": {"profle=quick": "nearest: profile;", "runs_dir=": "runs_dir= is empty"},
    "dashboard": {
        "output=.": "output=. is a folder; give the name of a file in it",
        "output=thesis/claims.md": "is a file of another kind; name another",
        "output=file/views.json": "file is no writable folder",
    },
    "verify": {"runs_dri=x": "nearest: runs_dir;"},
}


@pytest.mark.parametrize("typed", TYPED)
def test_a_mistake_is_reported_in_one_line_and_nothing_is_written(typed, refusal):
    assert TYPED[typed] in refusal("train", *typed.split())


@pytest.mark.parametrize(("module", "typed"), [(module, typed) for module in OTHERS for typed in OTHERS[module]])
def test_a_mistake_of_another_command_is_reported_alike(module, typed, refusal):
    assert OTHERS[module][typed] in refusal(module, *typed.split())


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
def test_a_process_prints_one_line_and_leaves_nothing(arguments, tmp_path, record_property):
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


def test_a_bug_is_not_reported_as_a_mistake_of_the_user(tmp_path):
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
