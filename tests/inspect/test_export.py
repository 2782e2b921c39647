"""python -m experiments.export: the model is rebuilt from the card's example; the card states what it must."""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard

import data
import models
from experiments.export import FILES
from experiments.inspect.exporting import export_model
from experiments.inspect.model_card import train_command
from experiments.runs.identity import run_id
from experiments.runs.outputs import RECORD
from experiments.training.load import find, load
from tests.helpers.commands import ROOT
from tests.helpers.configs import composed
from tests.helpers.processes import finish
from tests.helpers.tiny_runs import MODELS, command, copy_of, train_all


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return train_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of one run, to be damaged."""
    return copy_of("train-lstm-bn", runs, tmp_path / "runs")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package `layer_normalization` as this checkout has it, whichever one is installed."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "layer_normalization").symlink_to(ROOT / "models")
    for name in [name for name in sys.modules if name.partition(".")[0] == "layer_normalization"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "packages")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", MODELS)
def test_the_cards_example_gives_the_logits_to_the_last_bit(name, runs, tmp_path):
    trained = load(find(f"train-{name}", str(runs)))
    export_model(trained, tmp_path / "taken")
    card = (tmp_path / "taken" / "README.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(example.strip().splitlines()) <= 7
    there: dict = {}
    with contextlib.chdir(tmp_path):
        exec(example, there)
    if name == "order_embedding-ln":
        x = torch.randint(trained.num_classes, (3, *trained.input_shape))
        given, expected = (model(x) for model in (there["model"], trained.model))
        assert there["config"]["vocabulary"] == trained.vocabulary and "pairs of sentences (N, 2, T)" in card
    elif name == "skip_thoughts-ln":
        x = torch.randint(1, trained.num_classes, (3, *trained.input_shape))
        x[:, :, 9:] = x[1, 0, 4:] = 0
        given, expected = (
            torch.cat([model(x).flatten(), model.encode(x[:, 0]).flatten()])
            for model in (there["model"], trained.model)
        )
        assert there["config"]["vocabulary"] == trained.vocabulary and "`model.encode(...)` returns the states" in card
        assert f"without memory has {trained.manifest['baseline']['test']:.6g} nats per word" in card
    elif name == "attentive_reader-bn":
        x = torch.cat([torch.randint(1, 500, (3, part)) for part in trained.input_shape[1:]], 1)
        x[0, 40:60] = x[1, 90:] = 0  # behind the end of a question and of a passage
        given, expected = (torch.cat(model.read(x), 1) for model in (there["model"], trained.model))
        assert there["config"]["vocabulary"] == trained.vocabulary and "`model.read(...)` returns the attention" in card
    elif trained.vocabulary:
        x = torch.randint(trained.num_classes, (3, 9))  # longer than the windows of training
        given, expected = (model(x)[0] for model in (there["model"], trained.model))
        assert there["config"]["vocabulary"] == trained.vocabulary
    elif name == "draw-ln":
        x = torch.randint(2, (3, *trained.input_shape)).float()
        given, expected = (
            torch.cat([model(x), model.sample(2, torch.Generator().manual_seed(7)).flatten()])
            for model in (there["model"], trained.model)
        )
        assert given[:3].shape == (3,) and "mean" not in there["config"] and "`model.sample(N)` draws images" in card
    elif name == "handwriting-rms":
        task = trained.task()
        given, expected = (
            torch.cat([model(*task.validation()), model.sample(9, torch.tensor([1, 2]), 0).flatten()])
            for model in (there["model"], trained.model)
        )
        assert there["config"]["vocabulary"][0] == "<unk>" and len(there["config"]["sd"]) == 2
        assert f"without memory has {trained.manifest['baseline']['test']:.6g} nats" in card
        assert "texts (N, U)" in card and "pen trajectories" in card and "images" not in card
    else:
        x = torch.randn(3, *trained.input_shape)
        given, expected = (model(x) for model in (there["model"], trained.model))
        assert len(there["config"]["mean"]) == len(there["config"]["sd"]) == 1
    assert torch.equal(given, expected) and given.any()


LOADER = """\
import sys

class Hidden:  # nothing of the repository but its package, and none of what the experiments need
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"experiments", "data", "models", "hydra", "omegaconf", "pandas", *HIDDEN}:
            raise ModuleNotFoundError(name)

HIDDEN = sys.argv[2:]
sys.meta_path.insert(0, Hidden())
import torch
import layer_normalization

try:
    model = layer_normalization.load(sys.argv[1])
except layer_normalization.ModelError as error:
    sys.exit(f"refused: {error}")
assert not model.training
torch.save(model(torch.arange(27).view(3, 9))[0], "logits.pt")
"""


def load_elsewhere(folder, tmp_path, *hidden: str) -> subprocess.CompletedProcess:
    """Load an exported folder in a project that has torch, safetensors and the package of layers."""
    (tmp_path / "packages").mkdir(exist_ok=True)
    if not (tmp_path / "packages" / "layer_normalization").exists():
        (tmp_path / "packages" / "layer_normalization").symlink_to(ROOT / "models")
    (tmp_path / "project.py").write_text(LOADER)
    command = [sys.executable, "project.py", str(folder), *hidden]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "packages")}
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)


def test_an_exported_model_loads_in_another_project(runs, tmp_path):
    trained = load(find("train-lstm-ln", str(runs)))
    export_model(trained, tmp_path / "taken")
    result = load_elsewhere("taken", tmp_path)
    assert result.returncode == 0, result.stderr
    assert torch.equal(torch.load(tmp_path / "logits.pt"), trained.model(torch.arange(27).view(3, 9))[0])
    result = load_elsewhere("taken", tmp_path, "safetensors")
    assert (
        result.returncode == 1 and result.stderr.startswith("refused: ") and "pip install safetensors" in result.stderr
    )


def changed(config: dict, **values) -> str:
    return json.dumps(config | values)


DAMAGES = {
    "no folder": (lambda folder, _: shutil.rmtree(folder), "config.json cannot be read (No such file"),
    "no weights": (lambda folder, _: (folder / "model.safetensors").unlink(), "safetensors cannot be read"),
    "cut weights": (
        lambda folder, _: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors is damaged",
    ),
    "no JSON": (lambda folder, _: (folder / "config.json").write_text("{"), "config.json is damaged"),
    "a list": (lambda folder, _: (folder / "config.json").write_text("[]"), "is not of experiments.export"),
    "another version": (
        lambda folder, config: (folder / "config.json").write_text(changed(config, settings="Transformer")),
        "settings=Transformer is unknown",
    ),
    "another field": (
        lambda folder, config: (folder / "config.json").write_text(
            changed(config, model=config["model"] | {"heads": 8})
        ),
        "unexpected keyword argument 'heads'",
    ),
    "another normaliser": (
        lambda folder, config: (folder / "config.json").write_text(changed(config, norm="none", norm_options={})),
        "Unexpected key(s) in state_dict",
    ),
    "a field less": (
        lambda folder, config: (folder / "config.json").write_text(
            json.dumps({name: value for name, value in config.items() if name != "norm"})
        ),
        "KeyError: 'norm'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_not_whole_or_of_another_version_is_refused_in_one_line(damage, runs, tmp_path):
    export_model(load(find("train-lstm-bn", str(runs))), tmp_path / "taken")
    do, reason = DAMAGES[damage]
    do(tmp_path / "taken", json.loads((tmp_path / "taken" / "config.json").read_text()))
    with pytest.raises(models.ModelError) as refused:
        models.load(tmp_path / "taken")
    message = str(refused.value)
    assert reason in message and str(tmp_path / "taken") in message and "\n" not in message


def test_the_card_states_data_recipe_and_figures(runs, tmp_path):
    output = tmp_path / "model"
    result = command("export", f"runs_dir={runs}", "run=train-lstm-bn", f"output={output}")
    assert result.returncode == 0 and str(output) in result.stdout, result.stderr
    assert {path.name for path in output.iterdir()} == {*FILES, RECORD}
    folder, card = find("train-lstm-bn", str(runs)), re.sub(" +", " ", (output / "README.md").read_text())
    environment = json.loads((folder.path / "environment.json").read_text())
    for expected in (
        folder.run_id,
        f"| test/bpc | {folder.summary['test/bpc']:.6g} |",
        environment["git"],
        environment["data"]["sources"][0]["sha256"],
        data.SETS["python_docs"].terms,
        "batch normalisation",
    ):
        assert expected in card, expected
    assert str(tmp_path) not in card and "best_val" not in card


@pytest.mark.parametrize(
    "name, task, metric",
    [
        ("lstm-bn", "text-generation", "test/bpc"),
        ("cnn-wn", "image-classification", "test/error"),
        ("draw-ln", "unconditional-image-generation", "test/bound"),
        ("handwriting-rms", "other", "test/nll"),
        ("order_embedding-ln", "sentence-similarity", "test/rsum"),
        ("attentive_reader-bn", "question-answering", "test/error"),
        ("skip_thoughts-ln", "feature-extraction", "test/loss"),
    ],
)
def test_the_header_gives_the_hub_licence_data_and_results(name, task, metric, runs, tmp_path):
    trained = load(find(f"train-{name}", str(runs)))
    export_model(trained, tmp_path)
    header = ModelCard.load(tmp_path / "README.md").data
    assert (header.license, header.library_name, header.model_name) == ("mit", "pytorch", trained.folder.run_id)
    assert header.datasets == [trained.cfg.data.name] and f"norm-{trained.cfg.norm.name}" in header.tags
    results = {f"{result.dataset_split}/{result.metric_type}": result for result in header.eval_results}
    assert results[metric].task_type == task
    assert results[metric].metric_value == trained.folder.summary[metric]
    assert all(name.startswith(("test/", "val/", "train/")) for name in results)


@pytest.mark.parametrize("name", MODELS)
def test_the_cards_command_is_of_a_run_with_the_same_numbers(name, runs):
    trained = load(find(f"train-{name}", str(runs)))
    _, _, module, *overrides = shlex.split(train_command(trained.cfg))
    assert module == "experiments.train" and run_id(composed(*overrides)) == trained.folder.run_id


def test_words_of_a_text_that_may_not_be_handed_on_stay_out(runs, tmp_path, monkeypatch):
    trained = load(find("train-lstm-ln", str(runs)))
    word = max(trained.vocabulary, key=len)
    export_model(trained, tmp_path / "free")
    assert word in (tmp_path / "free" / "config.json").read_text()
    monkeypatch.setitem(data.SETS, "python_docs", dataclasses.replace(data.SETS["python_docs"], handed_on=False))
    export_model(trained, tmp_path / "kept")
    files = [(tmp_path / "kept" / name).read_text() for name in ("config.json", "README.md")]
    assert word not in "".join(files) and "vocabulary_sha256" in files[0] and "handed on" in files[1]
    assert not data.SETS["ptb_word"].handed_on


def test_only_a_finished_run_is_exported(folder, tmp_path):
    def refused(*more: str) -> str:
        result = command("export", f"run={folder.path}", *more)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    output, whole = f"output={tmp_path / 'out'}", (folder.path / "summary.json").read_bytes()
    folder.set_status("interrupted")
    assert "is interrupted" in refused(output)
    finish(folder, status="diverged", diverged_at=2)
    folder.set_status("diverged")
    assert "is diverged" in refused(output)
    (folder.path / "summary.json").write_bytes(whole)
    folder.finish("done", "")
    (folder.path / "summary.json").write_bytes(whole.replace(b'"test/loss": ', b'"test/loss": 1'))
    assert "summary.json: not as written when the run ended, and a model card states" in refused(output)
    (folder.path / "summary.json").write_bytes(whole)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file")
    assert "output=" in refused(output)
    (tmp_path / "README.md").write_text("mine")
    assert "holds README.md, which this command did not write" in refused(f"output={tmp_path}")
    assert (tmp_path / "README.md").read_text() == "mine" and not (tmp_path / "config.json").exists()


def test_the_terms_of_every_set_are_those_of_the_data_card():
    lines = re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", (ROOT / "data" / "README.md").read_text(), re.MULTILINE)
    terms, last = {}, ""
    for name, text in lines:
        last = terms[name] = last if text == "the same" else text
    assert terms == {name: row.terms for name, row in data.SETS.items()}
