"""docs/glossary.md against what is logged: runs of each kind leave no key without an entry, and no entry is idle."""

import re

import pandas as pd
import pytest
import torch
import yaml
from hydra import compose

from data import Text
from data.settings import BinarizedMNIST
from experiments.cli.compose import hydra_configs
from experiments.config.schema import Adam, Trainer
from experiments.judging.claims.base import METRICS
from experiments.runs.folder import RunFolder
from experiments.runs.run import Run
from experiments.training.loop import fit
from experiments.training.run import train_run
from experiments.training.tasks import make_task
from models.build import build
from models.create_norm import NormLayer
from models.settings import Recurrent
from tests.helpers import sentence_eval
from tests.helpers.commands import ROOT
from tests.helpers.golden import TEXT
from tests.helpers.recorder import RowRecorder

TEXTS = ["model=rnn", "norm=ln", "model.hidden_size=8", "data=text_file", "data.seq_len=8", "data.batch_size=4"]
SMALL = ["trainer.steps=2", "trainer.evaluations=1", "wandb.mode=disabled"]
RUNS = {
    "characters, a cell of an experiment": [
        *TEXTS,
        "experiment=placement",
        "profile=standard",
        "experiment.arm=paper",
        "optim.lr=0.01",
    ],
    "words, with statistics": [*TEXTS, "data.unit=word", "trainer.statistics=true", "trainer.measure=[train_test_gap]"],
    "images": ["model=mlp", "data=digits", "trainer.measure=[invariance,training_loss]"],
    "binary images": ["model=draw", "model.glimpses=2", "data=binary_digits"],
    "handwriting": ["model=handwriting", "model.hidden_size=8", "data=drawn_lines", "data.train=40"],
    "pairs": ["model=order_embedding", "model.hidden_size=8", "data=python_docs_pairs", "data.max_length=10"],
    "sentences": [
        *("model=skip_thoughts", "model.hidden_size=8", "model.embedding_size=5", "data=python_docs_sentences"),
        *("data.words=300", "trainer.measure=[transfer]"),
    ],
    "questions": ["model=attentive_reader", "model.hidden_size=8", "data=python_docs_cloze"],
    "diverged": ["model=mlp", "data=digits", "optim=sgd", "optim.lr=1e38", "trainer.log_every=1"],
}
RULES = [yaml.safe_load(path.read_text())["experiment"] for path in (ROOT / "configs" / "experiment").glob("*.yaml")]
PLACES = {
    "<split>": "(train|val|test)",
    "<module>": r"[\w.]+",
    "<parameter>": r"[\w.]+",
    "<axis>": f"({'|'.join(sorted({axis for rule in RULES for axis in rule.get('axes', {})}))})",
}


def entries() -> dict[str, re.Pattern]:
    """Every key of the page, in the first column of its tables, and what it stands for."""
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    keys = [key for line in lines if line.startswith("| `") for key in re.findall("`([^`]+)`", line.split(" | ")[0])]
    assert len(keys) == len(set(keys))
    return {key: re.compile(re.sub("<[a-z]+>", lambda place: PLACES[place[0]], key)) for key in keys}


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> set[str]:
    """The keys of the rows and summaries of every kind of run."""
    folder = tmp_path_factory.mktemp("glossary")
    (folder / "text.txt").write_text(TEXT)
    keys = keys_of_pixels()
    monkeypatch = pytest.MonkeyPatch()
    sentence_eval.write(folder / "data", monkeypatch)
    monkeypatch.setenv("LAYERNORM_DATA", str(folder / "data"))
    for overrides in RUNS.values():
        text = [f"data.path={folder / 'text.txt'}"] if "data=text_file" in overrides else []
        with hydra_configs():
            cfg = compose("train", [*overrides, *text, *SMALL, f"runs_dir={folder / 'runs'}"])
        done = RunFolder(folder / "runs", train_run(Run.of(cfg))["run_id"])
        assert done.finished, (done.path / "error.txt").read_text()
        keys |= {key for row in (done.summary, *done.metrics()) for key in row}
    monkeypatch.undo()
    return keys


def keys_of_pixels() -> set[str]:
    """Rows of pixels in place of binarized_mnist, which has to be brought."""
    tokens = {split: torch.tensor([2, 0, 1, 1] * 8) for split in ("train", "val", "test")}
    text, settings = Text(tokens, ["0", "1", "<start>"], "pixel", 4, {}), BinarizedMNIST(batch_size=4)
    task = make_task(text, settings, 0, "cpu")
    model = build(Recurrent(name="rnn", hidden_size=8), task.input_shape, task.num_classes, NormLayer("ln"))
    fit(model, task, Adam(), Trainer(steps=2, evaluations=1), rows := RowRecorder())
    return {key for row in rows for key in row}


def test_every_logged_key_has_one_entry(logged):
    found = {key: [entry for entry, pattern in entries().items() if pattern.fullmatch(key)] for key in logged}
    assert not {key: names for key, names in found.items() if len(names) != 1}


def test_a_claim_can_be_about_every_metric_that_is_logged(logged):
    of_networks = {
        key for key in logged if key.partition("/")[0] in ("test", "val", "gap", "change", "train_eval", "transfer")
    }
    assert of_networks <= set(METRICS)


def test_every_entry_is_logged(logged):
    assert not [entry for entry, pattern in entries().items() if not any(map(pattern.fullmatch, logged))]


def test_every_column_of_the_committed_rows_has_an_entry():
    for path in (ROOT / "results" / "reference").glob("*/*.csv"):
        if path.name in ("runs.csv", "curves.csv"):
            columns = pd.read_csv(path, nrows=0).columns
            assert not [c for c in columns if not any(pattern.fullmatch(c) for pattern in entries().values())], path
