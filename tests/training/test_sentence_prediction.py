"""Predicting the sentences around a sentence: which examples a step sees, the loss, and a training that learns."""

import pytest
import torch

import data
from data.settings import PythonDocsSentences
from experiments.runs.folder import RunFolder
from experiments.training.load import load
from experiments.training.tasks import make_task
from models.build import build
from models.create_norm import NormLayer
from models.settings import SkipThoughts
from tests.helpers.configs import trained


def task_of(**changed):
    """Two texts of 8 and 6 sentences; sentence n has n % 4 + 1 words, all n + 2."""
    numbers = torch.arange(14)
    sentences = (numbers[:, None] + 2).where(torch.arange(5) < numbers[:, None] % 4 + 1, 0)
    middles = torch.tensor([1, 2, 3, 4, 5, 6, 9, 10, 11, 12])
    splits = {"train": middles, "val": middles[:5], "test": middles[5:]}
    settings = PythonDocsSentences(**{"batch_size": 3, "eval_batch_size": 2, **changed})
    content = data.Sentences(dict.fromkeys(splits, sentences), splits, [str(n) for n in range(16)], {})
    return make_task(content, settings, 3, "cpu")


def network(task, norm: str = "none"):
    torch.manual_seed(0)
    settings = SkipThoughts(hidden_size=6, embedding_size=4)
    return build(settings, task.input_shape, task.num_classes, NormLayer(norm)).double()


def test_an_epoch_has_every_sentence_with_two_neighbours_once():
    task, other = task_of(batch_size=5), task_of(batch_size=5)
    assert task.steps_per_epoch == 2 and task.input_shape == (3, 5) and task.num_classes == 16
    for epoch in range(3):
        triples = torch.cat([task.batch(2 * epoch + step)[0] for step in range(2)])
        before, middle, after = (triples[:, k, 0] - 2 for k in range(3))
        assert sorted(middle.tolist()) == task.middles["train"].tolist()
        assert torch.equal(before + 1, middle) and torch.equal(middle + 1, after)
        lengths = (triples != 0).sum(2)
        assert torch.equal(lengths, torch.stack((before, middle, after), 1) % 4 + 1)
    other.order.seed = 4
    assert torch.equal(task.batch(1)[0], task_of(batch_size=5).batch(1)[0])
    assert not torch.equal(task.batch(1)[0], other.batch(1)[0])


def nats_of(model, task, split: str) -> torch.Tensor:
    """-log p of the neighbours of every sentence of a split, by itself."""
    rows = task.sentences[split]
    return torch.cat([model(rows[None, middle - 1 : middle + 2]) for middle in task.middles[split].tolist()]).sum(1)


def words_of(task, split: str) -> int:
    return sum((middle - 1) % 4 + 2 + (middle + 1) % 4 + 2 for middle in task.middles[split].tolist())


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_the_loss_is_of_a_word_and_an_epochs_batches_have_the_loss_of_the_split(norm):
    task = task_of(batch_size=5)
    model = network(task, norm)
    expected = nats_of(model, task, "train").sum() / words_of(task, "train")
    batches = torch.stack([task.loss(model, task.batch(step)) for step in range(2)])
    torch.testing.assert_close(batches.mean(), expected)
    for split in ("val", "test"):
        found = task.evaluate(model, split)
        assert found == {"loss": pytest.approx(nats_of(model, task, split).sum().item() / words_of(task, split))}
    assert not model.training


def test_shards_of_a_batch_weigh_equally():
    task = task_of(batch_size=4)
    model = network(task)
    batch = task.batch(0)
    shards = [task.loss(model, (part, part)) for part in batch[0].chunk(2)]
    torch.testing.assert_close(torch.stack(shards).mean(), task.loss(model, batch))


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_a_short_training_beats_the_frequencies_of_words(norm, tmp_path):
    outcome = trained(
        *("model=skip_thoughts", "data=python_docs_sentences", f"norm={norm}", "model.hidden_size=48"),
        *("model.embedding_size=32", "data.batch_size=32", "data.words=500", "optim.lr=0.01"),
        *("trainer.steps=60", "trainer.evaluations=1", "wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    assert outcome["status"] == "done", outcome
    run = load(RunFolder(tmp_path, outcome["run_id"]))
    assert run.folder.summary["test/loss"] < run.manifest["baseline"]["test"] - 0.5
