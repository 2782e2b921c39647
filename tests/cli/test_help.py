"""--help through the entry points: groups, choices, and every field with its meaning, from where they are declared."""

import dataclasses
import os
import subprocess
import sys

import pytest
import yaml

import data.settings
import models.settings
from experiments import dashboard, export, sample, status, verify, wandb_sync
from experiments.benchmark.command import Benchmark
from experiments.cli.help import CHOSEN_BY_GROUP, columns, comments_behind_keys
from experiments.config.experiment import Claim, Experiment
from experiments.config.metadata import choices, explanation, metadata, value_range
from experiments.config.schema import SGD, Adam, Config, Profile, Trainer, Wandb
from experiments.inspect.command import Inspect
from experiments.report.__main__ import Report
from models.recurrent.layer import BACKENDS, PLACEMENTS
from models.sequence_classifier import ORDERS
from tests.helpers.commands import ROOT

SCHEMAS = [*models.settings.SCHEMAS.values(), *data.settings.SCHEMAS.values()]
SCHEMAS += [Adam, SGD, Trainer, Wandb, Experiment, Claim, Profile, Config]
SCHEMAS += [Report, status.Status, verify.Verify, wandb_sync.Sync, dashboard.Dashboard]
SCHEMAS += [sample.Sample, export.Export, Inspect, Benchmark]


def help_of(module: str, *arguments: str, width: int = 100) -> str:
    command = [sys.executable, "-m", f"experiments.{module}", *arguments, "--help"]
    environment = os.environ | {"COLUMNS": str(width)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_field_has_a_meaning(schema):
    fields = [field.name for field in dataclasses.fields(schema) if field.name not in CHOSEN_BY_GROUP]
    assert [name for name in fields if not metadata(schema, name).get("help")] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs/norm").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_of_a_normaliser_has_a_meaning(path):
    assert set(yaml.safe_load(path.read_text())) - {"name"} == set(comments_behind_keys(path))


def test_a_field_that_a_subclass_gives_another_default_keeps_its_meaning_and_range():
    assert explanation(Adam, "lr") == explanation(SGD, "lr") == "learning rate per step, before the schedule (> 0)"
    assert value_range(models.settings.ImageRecurrent, "hidden_size").short == "1 to 1048576"
    assert metadata(data.settings.NoisyDigits, "val")["help"] != metadata(data.settings.ImageData, "val")["help"]
    assert explanation(dict, "anything") == "" and choices(dict, "anything") == ()


def test_the_choices_of_a_setting_are_those_that_the_model_takes():
    assert choices(models.settings.Recurrent, "placement") == PLACEMENTS
    assert choices(models.settings.Recurrent, "backend") == BACKENDS
    assert choices(models.settings.ImageRecurrent, "order") == ORDERS


def test_help_of_train_has_groups_choices_defaults_and_meanings():
    text = help_of("train")
    assert "python -m experiments.train -m model=rnn,lstm,gru" in text
    assert "its normaliser: bn, gn, in, [ln], none, rms, wn" in text
    assert "[adam], sgd" in text and "recurrent_gain" in text and "joblib" in text
    assert "  trainer.checkpoint_every=30.0   seconds between two checkpoints (>= 0)\n" in text
    assert "  model.hidden_size=128           H, units of a layer (1 to 1048576)\n" in text
    assert "(constant, cosine, step)" in " ".join(text.split())


def test_help_explains_the_choices_beside_it():
    text = help_of("train", "model=cnn", "norm=gn", "data=noisy_digits", "optim=sgd", "experiment=conv_gain")
    assert "  model.width=16                  channels of the first stage (1 to 1048576)\n" in text
    assert "  norm.groups=8                   into which the features are cut" in text
    assert "optim.momentum=" in text and "[sgd]" in text and "optim.beta1" not in text
    assert "experiment.tune_lr=" in text and "model.hidden_size" not in text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_help_keeps_to_the_width(width):
    lines = help_of("train", "experiment=conv_gain", width=width).splitlines()
    too_long = [line for line in lines if len(line) > width and " " in line.strip() and "-m experiments." not in line]
    assert too_long == [] and max(map(len, lines)) > width - 20


@pytest.mark.parametrize(
    "module", ["tune", "report", "benchmark", "status", "verify", "sample", "inspect", "export", "compare"]
)
def test_every_command_says_what_it_does(module):
    text = help_of(module)
    assert f"python -m experiments.{module}" in text and "Fields, set with field=value" in text and "--cfg job" in text
    assert ("model=" in text) == (module == "tune")


def test_a_long_name_has_its_meaning_below():
    text = columns("", {"short": "one", "a_very_long_name": "two"}, width=40, left=10)
    assert text.splitlines() == ["  short   one", "  a_very_long_name", "          two"]


def test_help_imports_no_torch():
    code = "import sys; from experiments.train import main; main(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--cfg", "job"], "hidden_size: 128"),
        (["--info", "defaults"], "Defaults List"),
        (["--hydra-help"], "== Flags =="),
    ],
)
def test_the_flags_of_hydra_keep_working(flags, expected, cli):
    result = cli("train", *flags, runs=False)
    assert result.returncode == 0 and expected in result.stdout


def test_a_choice_that_help_cannot_explain_is_refused(cli):
    result = cli("train", "--help", "norm=lm", runs=False)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: norm=lm is unknown; allowed: bn") and result.stderr.count("\n") == 1


def test_a_reader_that_leaves_gets_no_traceback():
    command = [sys.executable, "-m", "experiments.train", "--help"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 1
