"""Runs of a few steps, one of every kind of model, for the tests that load, export and damage them."""

import os
import shutil
import subprocess
from pathlib import Path

from experiments.runs.folder import RunFolder
from experiments.training.load import find
from tests.helpers.commands import run
from tests.helpers.configs import trained

SHORT = ["trainer.steps=3", "trainer.evaluations=1"]
TEXT = ["model.hidden_size=8", "data.seq_len=6", "data.batch_size=4", *SHORT]
TIED = ["model.input=embedding", "model.embedding_size=8", "model.tied=true"]
MODELS = {
    "lstm-bn": ["model=lstm", "norm=bn", *TEXT],
    "gru-gn": ["model=gru", "norm=gn", "norm.groups=2", "model.num_layers=2", *TEXT],
    "rnn-wn": ["model=rnn", "norm=wn", *TEXT],
    "lstm-ln": ["model=lstm", "norm=ln", "data.unit=word", *TIED, *TEXT],
    "cnn-wn": ["model=cnn", "model.depth=3", "model.width=4", "norm=wn", "norm.data_init=true", "data=digits", *SHORT],
    "mlp-rms": ["model=mlp", "model.hidden_sizes=[8,6]", "norm=rms", "data=digits", "optim=sgd", *SHORT],
    "draw-ln": [
        *("model=draw", "model.hidden_size=8", "model.glimpses=2", "model.latent_size=3", "model.write_size=3"),
        *("norm=ln", "data=binary_digits", "data.batch_size=16", *SHORT),
    ],
    "handwriting-rms": [
        *("model=handwriting", "model.hidden_size=8", "model.num_layers=2", "model.mixtures=2", "model.window=2"),
        *("norm=rms", "data=drawn_lines", "data.train=40", "data.val=9", "data.test=9", *SHORT),
    ],
    "order_embedding-ln": [
        *("model=order_embedding", "model.hidden_size=8", "model.embedding_size=5", "norm=ln"),
        *("data=python_docs_pairs", "data.batch_size=8", "data.max_length=12", "data.val=30", "data.test=30", *SHORT),
    ],
    "attentive_reader-bn": [
        *("model=attentive_reader", "model.hidden_size=8", "model.embedding_size=6", "norm=bn"),
        *("data=python_docs_cloze", "data.batch_size=8", *SHORT),
    ],
    "skip_thoughts-ln": [
        *("model=skip_thoughts", "model.hidden_size=8", "model.embedding_size=5", "norm=ln"),
        *("data=python_docs_sentences", "data.words=300", "data.batch_size=8", *SHORT),
    ],
    "image_gru-bn": [
        "model=image_gru",
        "model.hidden_size=8",
        "model.order=permuted",
        "norm=bn",
        "data=digits",
        *SHORT,
    ],
}


def train(runs_dir: Path, *overrides: str) -> RunFolder:
    """Train a run to its end in this process; return its folder."""
    outcome = trained(*overrides, "wandb.mode=disabled", f"runs_dir={runs_dir}")
    assert outcome["status"] == "done", outcome
    return RunFolder(runs_dir, outcome["run_id"])


def train_all(runs_dir: Path) -> Path:
    """Train one run of every kind of model; return the folder of the runs."""
    for overrides in MODELS.values():
        train(runs_dir, *overrides)
    return runs_dir


def copy_of(name: str, runs_dir: Path, target: Path) -> RunFolder:
    """Return a copy of one run, to be damaged."""
    original = find(name, str(runs_dir))
    shutil.copytree(original.path, target / original.run_id)
    return RunFolder(target, original.run_id)


def command(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run python -m experiments.<module> to its end, with its output."""
    return run(f"experiments.{module}", *arguments, environment={**os.environ, **environment})
