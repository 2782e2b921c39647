"""Handwriting: predict each point of a pen trajectory from those before it."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from data import Strokes
from experiments.training.protocols import Batch
from experiments.training.tasks.order import Order
from models.handwriting import PAST_THE_END


class Handwriting:
    """Predict each point but the first. An example is a trajectory, cut after seq_len points, with its text.

    The density of a step is in the data's units, so likelihoods compare between runs on the same set alone.
    """

    def __init__(self, strokes: Strokes, settings, seed: int, device: str):
        self.seed = seed
        cut = {split: [steps[: settings.seq_len] for steps in each] for split, each in strokes.steps.items()}
        self.points = {split: sum(len(steps) - 1 for steps in each) for split, each in cut.items()}  # predicted
        self.trajectories = {split: _padded(each, device) for split, each in cut.items()}
        self.texts = {split: _padded(each, device) for split, each in strokes.texts.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(cut["train"]), "trajectories", settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = (3,)
        self.num_classes = len(strokes.vocabulary)

    def batch(self, step: int) -> Batch:
        """Return trajectories (N, T, 3) and texts (N, U) of a training step, padded to the longest of the split."""
        chosen = self.order(step)
        return self.trajectories["train"][chosen], self.texts["train"][chosen]

    def validation(self) -> Batch:
        """Return the validation trajectories and texts as one batch."""
        return self.trajectories["val"], self.texts["val"]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean -log likelihood in nats per point, of a training trajectory of mean length.

        Divided by the batch's own points, the shards of a batch would weigh unequally.
        """
        return model(*batch).mean() * len(self.trajectories["train"]) / self.points["train"]

    def metrics(self, loss: float) -> dict[str, float]:
        """Return the loss per point and per trajectory."""
        return {"loss": loss, "nll": loss * self.points["train"] / len(self.trajectories["train"])}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return -log likelihood per point and per trajectory over the whole split, in evaluation mode."""
        model.eval()
        chunks = (content[split].split(self.eval_batch_size) for content in (self.trajectories, self.texts))
        nats = sum(model(*batch).double().sum().item() for batch in zip(*chunks, strict=True))
        return {"loss": nats / self.points[split], "nll": nats / len(self.trajectories[split])}


def _padded(sequences: list[Tensor], device: str) -> Tensor:
    """Return one tensor; behind a sequence's end stand PAST_THE_END."""
    return pad_sequence(sequences, batch_first=True, padding_value=PAST_THE_END).to(device)
