"""A run found again and loaded, with its data or without them."""

import shutil

import pytest
import torch
from omegaconf import OmegaConf

import data
from experiments.config.errors import ConfigError
from experiments.config.schema import settings
from experiments.judging.claims.base import UNITS_OF
from experiments.runs.folder import RunFolder
from experiments.runs.identity import run_id
from experiments.training import load as trained_module
from experiments.training.load import find, find_all, load
from tests.helpers.configs import composed
from tests.helpers.processes import finish
from tests.helpers.tiny_runs import MODELS, TEXT, command, copy_of, train, train_all


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return train_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of one run, to be damaged."""
    return copy_of("train-lstm-bn", runs, tmp_path / "runs")


def refusal(call) -> str:
    with pytest.raises((ConfigError, data.DataError)) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_name_start_and_folder(runs):
    name = find("train-cnn", str(runs)).run_id
    assert find(name, str(runs)).path == runs / name
    assert find(str(runs / name), "elsewhere").path == find(f"{runs / name}/", "elsewhere").path == runs / name
    assert len(find_all("train-", str(runs))) == len(MODELS)


def test_the_whole_name_is_that_run_even_where_others_begin_so(runs, tmp_path):
    for name in ("a", "ab"):
        shutil.copytree(find("train-cnn", str(runs)).path, tmp_path / name)
    assert find("a", str(tmp_path)).run_id == "a"


def test_a_missing_run_is_reported_with_the_nearest_name(runs, tmp_path):
    assert "nearest: train-cnn-wn" in refusal(lambda: find("train-cmn-wn", str(runs)))
    assert "2 runs, as train-lstm-bn" in refusal(lambda: find("train-lstm", str(runs)))
    assert "no run in" in refusal(lambda: find("any", str(tmp_path)))
    assert "run= is missing" in refusal(lambda: find(None, str(runs)))


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_that_of_the_checkpoint_and_of_the_start(name, runs):
    trained = load(find(f"train-{name}", str(runs)))
    saved = trained.folder.load_checkpoint("cpu")["model"]
    assert trained.step == 3 and not trained.model.training
    state = trained.model.state_dict()
    assert state.keys() == saved.keys() and all(torch.equal(state[key], saved[key]) for key in saved)
    assert any(not torch.equal(value, saved[key]) for key, value in trained.at_start().state_dict().items())
    task = trained.task()
    assert (task.input_shape, task.num_classes) == (trained.input_shape, trained.num_classes)


@pytest.mark.parametrize("name", MODELS)
def test_a_task_logs_what_rules_may_ask_of_it(name, runs):
    folder = find(f"train-{name}", str(runs))
    data_config = load(folder).cfg.data
    units = UNITS_OF[data_config.unit if data_config.kind == "text" else data_config.kind]
    logged = {column.removeprefix("val/") for column in folder.summary if column.startswith("val/")}
    assert logged == set(units)


def test_the_start_is_that_of_the_run(tmp_path):
    """With a learning rate that no weight can feel, the checkpoint holds the initial weights."""
    trained = load(train(tmp_path, "model=gru", "norm=ln", "seed=3", "optim.lr=1e-30", *TEXT))
    start = trained.at_start().state_dict()
    for key, value in trained.model.state_dict().items():
        torch.testing.assert_close(value, start[key], rtol=0, atol=1e-20)


@pytest.mark.parametrize("experiment", ["recurrent_gain", "where_ln_helps", "permutation_invariant_mnist"])
def test_the_configuration_of_an_experiments_run_is_read_as_it_was(experiment, tmp_path):
    cfg = composed(f"experiment={experiment}", "profile=standard", "optim.lr=0.1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    read = trained_module._configuration(RunFolder(tmp_path, "run"))
    assert OmegaConf.to_container(read) == OmegaConf.to_container(cfg, resolve=True)
    assert run_id(read) == run_id(cfg) and type(settings(read.model)) is type(settings(cfg.model))


def test_a_run_that_was_evaluated_gives_its_figures_again(runs):
    for name in ("lstm-bn", "cnn-wn", "handwriting-rms"):
        trained = load(find(f"train-{name}", str(runs)))
        assert trained.task().evaluate(trained.model, "test")["loss"] == trained.folder.summary["test/loss"]


def test_damage_is_reported_in_one_line(folder):
    for path in folder.path.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    assert "no checkpoint is whole" in refusal(lambda: load(folder))
    for path in folder.path.glob("*.pt"):
        path.unlink()
    assert "no checkpoint yet" in refusal(lambda: load(folder))
    finish(folder, status="diverged", diverged_at=2)
    folder.set_status("diverged", message="the training loss is not finite after step 2")
    assert "after step 2" in refusal(lambda: load(folder))
    config = (folder.path / "config.yaml").read_text()
    for broken in ("model: [", "seed: 3\n", config.replace("hidden_size", "hiden_size"), config + "unknown: 1\n"):
        (folder.path / "config.yaml").write_text(broken)
        assert "config.yaml" in refusal(lambda: load(folder))


def test_a_checkpoint_of_another_network_is_reported(folder):
    text = (folder.path / "config.yaml").read_text()
    (folder.path / "config.yaml").write_text(text.replace("hidden_size: 8", "hidden_size: 9"))
    assert "not of the model in config.yaml" in refusal(lambda: load(folder))


def test_a_configuration_that_no_network_has_is_reported(folder):
    """As in a stranger's run: its values have the declared types, and make no sense."""
    path = folder.path / "config.yaml"
    path.write_text(path.read_text().replace("hidden_size: 8", "hidden_size: -8"))
    assert "hidden_size: -8" in path.read_text()
    assert "describes no network that can be built" in refusal(lambda: load(folder))


def test_a_text_is_written_without_the_data_and_looked_into_only_with_them(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("the cat sat on the mat, and the dog on the log.\n" * 40)
    runs_dir, elsewhere = tmp_path / "runs", {"LAYERNORM_CACHE": str(tmp_path / "empty")}
    of_book = ["model=rnn", "norm=ln", "data=text_file", f"data.path={book}", *TEXT]
    chars, words = (f"run={train(runs_dir, *of_book, f'data.unit={unit}').path}" for unit in ("char", "word"))
    book.rename(tmp_path / "gone.txt")
    result = command("sample", chars, "prompt=the ", "length=5", **elsewhere)
    assert result.returncode == 0 and len(result.stdout) == 10, result.stderr
    for arguments in (("inspect", chars), ("sample", words)):
        result = command(*arguments, **elsewhere)
        assert result.returncode == 2 and "book.txt" in result.stderr and len(result.stderr.splitlines()) == 1
    book.write_text("another text altogether, a little longer\n" * 40)
    result = command("inspect", chars, **elsewhere)
    assert result.returncode == 2 and "not what the run was trained on" in result.stderr
