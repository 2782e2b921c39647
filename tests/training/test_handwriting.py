"""Handwriting as a task: what a loss is of, learning, the same run after a kill."""

import signal

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

import data
from data.settings import DrawnLines
from experiments.training.tasks import Handwriting, make_task
from models.handwriting import PAST_THE_END
from tests.helpers.processes import OFTEN, assert_equal, only, start, train, wait_for

FEW = {"train": 40, "val": 9, "test": 9}
TINY = [
    *("model=handwriting", "model.hidden_size=8", "model.num_layers=2", "model.mixtures=3", "norm=ln"),
    *("data=drawn_lines", *(f"data.{split}={count}" for split, count in FEW.items())),
]


def task(**changed) -> tuple[Handwriting, data.Strokes]:
    settings = DrawnLines(**{**FEW, "eval_batch_size": 4, **changed})
    strokes = data.load(settings)
    return make_task(strokes, settings, 0, "cpu"), strokes


def ten_a_point(trajectories: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """A network whose -log likelihood is 10 for each point but the first."""
    return 10.0 * ((trajectories[..., 2] != PAST_THE_END).sum(1) - 1)


ten_a_point.eval = lambda: None


def test_a_batch_is_trajectories_and_texts_of_the_training_split_in_an_order_by_seed_and_epoch():
    made, strokes = task(batch_size=7)
    assert made.steps_per_epoch == 40 // 7
    seen = [made.batch(step) for step in range(5)]
    whole = {
        tuple(steps.flatten().tolist()): text.tolist()
        for steps, text in zip(strokes.steps["train"], strokes.texts["train"], strict=True)
    }
    for trajectories, texts in seen:
        for trajectory, text in zip(trajectories, texts, strict=True):
            there = trajectory[trajectory[:, 2] != PAST_THE_END]
            assert whole.pop(tuple(there.flatten().tolist())) == text[text != PAST_THE_END].tolist()
    assert len(whole) == 40 - 35
    again, _ = task(batch_size=7)
    assert all(torch.equal(a, b) for a, b in zip(again.batch(3), seen[3], strict=True))
    assert not torch.equal(made.batch(5)[0], seen[0][0])


def test_the_loss_is_of_a_point_and_the_shards_of_a_batch_weigh_alike():
    made, strokes = task()
    points = [len(steps) - 1 for steps in strokes.steps["val"]]
    figures = made.evaluate(ten_a_point, "val")
    assert figures["loss"] == pytest.approx(10.0) and figures["nll"] == pytest.approx(10 * sum(points) / len(points))
    batch = made.batch(0)
    loss = made.loss(ten_a_point, batch)
    halves = [made.loss(ten_a_point, tuple(each.chunk(2)[k] for each in batch)) for k in (0, 1)]
    torch.testing.assert_close(loss, sum(halves) / 2)
    assert made.metrics(loss.item())["nll"] == pytest.approx(ten_a_point(*batch).mean().item())


def test_a_trajectory_is_cut_after_seq_len_points():
    made, strokes = task(seq_len=40)
    assert made.trajectories["test"].shape[1] == 40
    assert made.points["test"] == sum(min(len(steps), 40) - 1 for steps in strokes.steps["test"])
    whole = pad_sequence(strokes.steps["test"], batch_first=True, padding_value=PAST_THE_END)
    assert torch.equal(made.trajectories["test"], whole[:, :40])


def test_a_short_run_is_far_better_than_the_baseline(tmp_path):
    arguments = [*TINY, "trainer.steps=80", "trainer.evaluations=1", "optim.lr=0.03", "wandb.mode=disabled"]
    assert train(tmp_path, *arguments).returncode == 0
    summary, (_, strokes) = only(tmp_path).summary, task()
    assert summary["test/loss"] < strokes.manifest["baseline"]["test"] - 1.5
    assert summary["test/nll"] / summary["test/loss"] == pytest.approx(
        summary["val/nll"] / summary["val/loss"], rel=0.3
    )


def test_killed_and_started_again_it_is_the_same_run(tmp_path):
    undisturbed, killed = ([*TINY, *OFTEN, "trainer.steps=120"], tmp_path / "killed")
    assert train(tmp_path / "whole", *undisturbed).returncode == 0
    process = start(killed, *undisturbed)
    wait_for(lambda: killed.exists() and any(killed.glob("*/last.pt")), process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert only(killed).load_checkpoint("cpu")["state"]["step"] < 120
    assert train(killed, *undisturbed).returncode == 0
    assert_equal(only(killed), only(tmp_path / "whole"))
