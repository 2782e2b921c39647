"""Options without effect: reported once, for what was typed alone, and every row of the table is true of real runs."""

import pytest
from omegaconf import OmegaConf

from experiments.config.paths import ROOT
from experiments.runs.folder import RunFolder
from experiments.runs.identity import run_id
from experiments.runs.run import Run
from experiments.training.no_effect import IDLE_OPTIONS, warn
from experiments.training.run import train_run
from tests.helpers.commands import run
from tests.helpers.configs import composed

SMALL = ["trainer.steps=3", "trainer.evaluations=2", "wandb.mode=disabled", "device=cpu"]
TEXT = ["data=python_docs", "data.blocks=200", "data.seq_len=8", "data.batch_size=4", "model.hidden_size=8"]
DIGITS = ["data=digits", "data.batch_size=16", "data.train_examples=64"]
NO_NOISE = ["data.noise=0", "data.max_shift=0", "data.contrast_low=1.0"]

# (what is chosen, an option without effect there, the reason that is printed, another choice where it has its effect)
TRAINED = [
    (["model=lstm", "norm=none", *TEXT], "model.placement=per_gate", "with norm=none", "norm=ln"),
    (["model=gru", "norm=wn", *TEXT], "model.placement=input_only", "with norm=wn", "norm=bn"),
    (["model=rnn", "norm=ln", *TEXT], "model.placement=per_gate", "which has one gate", "model=lstm"),
    (["model=lstm", "norm=bn", *TEXT], "model.placement=per_gate", "each unit by itself", "norm=gn"),
    (["model=gru", "norm=ln", *TEXT], "model.forget_bias=-3.0", "with model=gru", "model=lstm"),
    (
        ["model=lstm", "norm=ln", *TEXT, "model.input=onehot"],
        "model.embedding_size=16",
        "onehot",
        "model.input=embedding",
    ),
    (["model=mlp", "norm=none", *DIGITS], "model.norm_output=true", "with norm=none", "norm=ln"),
    (["model=lstm", "norm=bn", *TEXT], "norm.gain=0.1", "where it is the default", "norm=ln"),
    (
        ["model=cnn", "norm=ln", "data=noisy_digits", *DIGITS[1:], *NO_NOISE],
        "data.noise_seed=5",
        "without noise",
        "data.noise=0.25",
    ),
    (["model=mlp", "norm=ln", *DIGITS], "optim.reference_batch=16", "with data.batch_size=16", "data.batch_size=32"),
    (["model=mlp", "norm=ln", *DIGITS], "optim.warmup_steps=1", "the full rate", None),
    (["model=mlp", "norm=ln", *DIGITS], "trainer.capture=false", "no CUDA GPU", None),
    (["model=mlp", "norm=ln", *DIGITS], "wandb.project=mine", "with wandb.mode=disabled", None),
    (["model=mlp", "norm=ln", *DIGITS], "profile=standard", "without experiment", None),
]
# Those that cannot be trained here: the files are not at hand.
NOT_TRAINED = [
    (["model=rnn", "norm=ln", "data=text_file", f"data.path={__file__}"], "data.root=/d", "with data=text_file"),
    (["model=rnn", "norm=ln", "data=binarized_mnist"], "data.seq_len=9", "a window is an image"),
    (["model=rnn", "norm=ln", "data=hf_text", f"data.path={ROOT}"], "data.revision=abc", "with local files"),
    (["model=rnn", "norm=ln"], "trainer.evaluations=9", "one evaluation a step"),
    (["model=rnn", "norm=ln"], "wandb.entity=me", "with wandb.mode=disabled"),
]


def numbers(cfg, folder) -> list[dict]:
    """All metrics of a run, without its times."""
    outcome = train_run(Run.of(OmegaConf.merge(cfg, {"runs_dir": str(folder)})))
    assert outcome["status"] == "done", outcome
    rows = RunFolder(folder, outcome["run_id"]).metrics()
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize(("chosen", "option", "reason", "other"), TRAINED, ids=lambda value: str(value)[:40])
def test_an_option_without_effect_changes_no_number_and_is_reported(chosen, option, reason, other, tmp_path, capsys):
    plain, given = composed(*SMALL, *chosen), composed(*SMALL, *chosen, option)
    warn([option], [given])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {option} has no effect ") and reason in line
    assert numbers(plain, tmp_path / "plain") == numbers(given, tmp_path / "given")
    if other is not None:  # the control: elsewhere it has its effect, and nothing is printed
        plain, given = composed(*SMALL, *chosen, other), composed(*SMALL, *chosen, other, option)
        warn([option], [given])
        assert capsys.readouterr().err == ""
        assert numbers(plain, tmp_path / "other plain") != numbers(given, tmp_path / "other given")


@pytest.mark.parametrize(("chosen", "option", "reason"), NOT_TRAINED, ids=lambda value: str(value)[:40])
def test_an_option_without_effect_is_reported(chosen, option, reason, capsys):
    warn([option], [composed(*SMALL, *chosen, option)])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {option} has no effect ") and reason in line


def test_the_lstms_of_draw_have_a_forget_gate(capsys):
    chosen = ["model=draw", "data=binary_digits", "model.forget_bias=-3.0"]
    warn(chosen[-1:], [composed(*chosen)])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("option", ["model.embedding_size=16", "model.forget_bias=-3.0"])
def test_a_reader_has_embeddings_and_forget_gates(option, capsys):
    warn([option], [composed("model=attentive_reader", "data=python_docs_cloze", option)])
    assert capsys.readouterr().err == ""


def test_every_row_of_the_table_is_tested():
    tested = {option.partition("=")[0] for _, option, *_ in [*TRAINED, *NOT_TRAINED]}
    assert tested == {row.option for row in IDLE_OPTIONS}


def test_only_what_was_typed_is_reported(capsys):
    cfg = composed("experiment=placement", "profile=standard", "norm=none", "optim.lr=0.1", "trainer.capture=false")
    warn(["experiment=placement", "profile=standard", "norm=none", "optim.lr=0.1"], [cfg])
    assert capsys.readouterr().err == ""


def test_the_names_of_runs_stay():
    """An option without effect has always been a part of the name, and runs that lie there keep theirs."""
    assert run_id(composed("norm=none", "model.placement=per_gate")) != run_id(composed("norm=none"))


def test_a_sweep_reports_once_and_of_how_many_runs(tmp_path):
    arguments = ["-m", "norm=none,ln", "seed=0,1", "model.placement=per_gate", "plan=true"]
    result = run("experiments.train", *arguments, f"runs_dir={tmp_path / 'runs'}")
    assert result.returncode == 0
    assert result.stderr == "warning: model.placement=per_gate has no effect with norm=none (2 of 4 runs)\n"


def test_a_run_that_a_sweep_names_twice_is_trained_once(tmp_path):
    arguments = ["-m", "data=python_docs,quick_text", "model=rnn", *SMALL[:-1], *TEXT[1:]]
    result = run("experiments.train", *arguments, f"runs_dir={tmp_path / 'runs'}")
    assert result.returncode == 0, result.stderr
    assert "warning: 1 of 2 jobs are runs that are asked for twice" in result.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_the_folder_of_data_has_an_effect_where_the_transfer_sets_are_below_it(capsys):
    cfg = composed("model=skip_thoughts", "data=python_docs_sentences", "trainer.measure=[transfer]", "data.root=/x")
    warn(["data.root=/x"], [cfg])
    assert not capsys.readouterr().err
