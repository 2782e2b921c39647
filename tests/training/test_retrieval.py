"""Retrieval: which pairs a step sees, and the ranks, against an explicit loop."""

import numpy as np
import pytest
import torch

import data
from data.settings import PairData
from experiments.runs.folder import RunFolder
from experiments.training.tasks import make_task
from experiments.training.tasks.retrieval import ranks, retrieval_metrics
from models.build import build
from models.create_norm import NormLayer
from models.settings import OrderEmbedding
from tests.helpers.configs import trained
from tests.helpers.processes import OFTEN, assert_equal, only, start, train, wait_for


def ranks_by_loop(S: list[list[float]]) -> list[float]:
    """1, and 1 for each better candidate, and 1/2 for each that is as good."""
    found = []
    for n, row in enumerate(S):
        rank = 1.0
        for m, value in enumerate(row):
            if m != n:
                rank += 1.0 if value > row[n] else 0.5 if value == row[n] else 0.0
        found.append(rank)
    return found


@pytest.mark.parametrize("values", [1000, 4], ids=["few ties", "many ties"])
def test_ranks_and_recalls_are_those_of_an_explicit_loop(values):
    S = torch.randint(values, (30, 30), generator=torch.Generator().manual_seed(0)).double()
    metrics, total = retrieval_metrics(S), 0.0
    for side, scores in (("target", S), ("source", S.t())):
        expected = ranks_by_loop(scores.tolist())
        assert ranks(scores).tolist() == expected
        for k in (1, 5, 10):
            recall = 100 * sum(rank <= k for rank in expected) / 30
            assert metrics[f"{side}_r{k}"] == pytest.approx(recall)
            total += recall
        assert metrics[f"{side}_mean_rank"] == pytest.approx(sum(expected) / 30)
        assert metrics[f"{side}_median_rank"] == pytest.approx(np.median(expected))
    assert metrics["rsum"] == pytest.approx(total)


def test_what_tells_nothing_apart_has_the_mean_rank_of_a_guess_and_no_recall():
    metrics = retrieval_metrics(torch.zeros(100, 100))
    assert metrics["target_mean_rank"] == metrics["source_mean_rank"] == 50.5 and metrics["rsum"] == 0
    perfect = retrieval_metrics(torch.eye(100))
    assert perfect["rsum"] == 600 and perfect["source_median_rank"] == 1


def task_of(K: int = 5, **changed):
    """12 items of K sentences of one word, item n with the words 10 n + 10 ... 10 n + 10 + K - 1."""
    sentences = (10 * torch.arange(1, 13)[:, None] + torch.arange(K))[:, :, None]
    splits = {"train": sentences, "val": sentences[:10], "test": sentences[:9]}
    settings = PairData(name="x", **{"batch_size": 4, "eval_batch_size": 5, **changed})
    return make_task(data.Pairs(splits, [str(n) for n in range(140)], {}), settings, 3, "cpu")


def test_each_epoch_takes_every_item_once_with_two_of_its_sentences():
    task, chosen = task_of(), set()
    assert task.steps_per_epoch == 3 and task.input_shape == (2, 1) and task.num_classes == 140
    for epoch in range(20):
        pairs = torch.cat([task.batch(3 * epoch + step)[0] for step in range(3)])[..., 0]
        assert sorted((pairs[:, 0] // 10).tolist()) == list(range(1, 13))
        assert torch.equal(pairs[:, 0] // 10, pairs[:, 1] // 10) and not (pairs[:, 0] == pairs[:, 1]).any()
        chosen |= {(a % 10, b % 10) for a, b in pairs.tolist()}
    assert len(chosen) == 20, "every ordered pair of the five"
    again, other = task_of(), task_of()
    other.seed = 4
    assert torch.equal(task.batch(7)[0], again.batch(7)[0]) and not torch.equal(task.batch(7)[0], other.batch(7)[0])


def test_the_sides_of_a_translation_stay_what_they_are():
    pairs = task_of(K=2).batch(0)[0][..., 0] % 10
    assert (pairs[:, 0] == 0).all() and (pairs[:, 1] == 1).all()


def test_evaluation_is_of_the_first_candidates_and_whole_batches():
    """Against the loss and the ranks of each pair, from all embeddings at once."""
    task = task_of(candidates=7)
    torch.manual_seed(0)
    model = build(OrderEmbedding(hidden_size=8, embedding_size=4), task.input_shape, task.num_classes, NormLayer("ln"))
    found = task.evaluate(model, "val")
    assert not model.training
    with torch.no_grad():
        embeddings = model(task.validation()[0])
        losses = [model.ranking_loss(embeddings[first : first + 4]).item() for first in (0, 4)]  # 2 pairs are left over
    assert found["loss"] == pytest.approx(sum(losses) / 2)
    S = [[-(b - a).clamp(min=0).square().sum().item() for b in embeddings[:7, 1]] for a in embeddings[:7, 0]]
    assert found["target_mean_rank"] == pytest.approx(sum(ranks_by_loop(S)) / 7)
    whole = task_of(batch_size=11).evaluate(model, "val")
    with torch.no_grad():
        assert whole["loss"] == pytest.approx(model.ranking_loss(embeddings).item())


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_a_short_training_finds_far_more_than_a_guess(norm, tmp_path):
    """A guess among 300 has a mean rank of 150 and finds 1.7 % among its first five."""
    sizes = ["model.hidden_size=64", "model.embedding_size=32", "data.batch_size=32", "data.max_length=14"]
    outcome = trained(
        *("model=order_embedding", "data=python_docs_pairs", f"norm={norm}", *sizes, "optim.lr=0.02"),
        *("trainer.steps=60", "trainer.evaluations=1", "wandb.mode=disabled", f"runs_dir={tmp_path}"),
    )
    assert outcome["status"] == "done", outcome
    summary = RunFolder(tmp_path, outcome["run_id"]).summary
    assert summary["test/target_mean_rank"] < 75 and summary["test/source_mean_rank"] < 75
    assert summary["test/target_r5"] > 10 and summary["test/source_r5"] > 10


def test_killed_and_started_again_the_run_is_the_undisturbed_one(tmp_path):
    small = ["model=order_embedding", "model.hidden_size=16", "model.embedding_size=8", "norm=bn", "trainer.steps=200"]
    small += [
        "data=python_docs_pairs",
        "data.batch_size=8",
        "data.max_length=12",
        "trainer.population_batches=5",
        *OFTEN,
    ]
    assert train(tmp_path / "undisturbed", *small).returncode == 0
    process = start(tmp_path / "killed", *small)
    wait_for(lambda: (tmp_path / "killed").exists() and list((tmp_path / "killed").glob("*/last.pt")), process)
    process.kill()
    process.wait()
    assert not only(tmp_path / "killed").finished, "it ended before it was killed"
    assert train(tmp_path / "killed", *small).returncode == 0
    assert_equal(only(tmp_path / "killed"), only(tmp_path / "undisturbed"))
