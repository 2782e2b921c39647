"""Question answering: choose the candidate that answers a question about a passage."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Cloze
from data.cloze import permuted
from experiments.training.protocols import Batch
from experiments.training.tasks.classification import evaluate_classes
from experiments.training.tasks.order import Order

EVALUATION_SEED = 0  # of the numbers that markers have in evaluation, the same for every run


class QuestionAnswering:
    """Choose the candidate that answers a question. An example is a question with its passage.

    Where the candidates are markers, those of a training question have other numbers each time that it comes, a
    function of the seed and the step; in evaluation every question has numbers of its own, always the same ones.
    """

    def __init__(self, cloze: Cloze, settings, seed: int, device: str):
        self.seed = seed
        self.cloze = cloze
        self.inputs = {split: x.to(device) for split, x in cloze.inputs.items()}
        self.answers = {split: y.to(device) for split, y in cloze.answers.items()}
        for split in ("val", "test"):
            numbers = torch.Generator().manual_seed(EVALUATION_SEED)
            self.inputs[split], self.answers[split] = self._renumbered(self.inputs[split], self.answers[split], numbers)
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(self.answers["train"]), "questions", settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = tuple(cloze.manifest["shape"])
        self.num_classes = cloze.candidates

    def batch(self, step: int) -> Batch:
        """Return questions with passages (N, Q + P) and answers (N,) of a training step."""
        chosen = self.order(step)
        seed = np.random.SeedSequence((self.seed, step)).generate_state(1, np.uint64)
        numbers = torch.Generator().manual_seed(int(seed[0]))
        return self._renumbered(self.inputs["train"][chosen], self.answers["train"][chosen], numbers)

    def _renumbered(self, inputs: Tensor, answers: Tensor, numbers: torch.Generator) -> Batch:
        if not self.cloze.anonymous:
            return inputs, answers
        return permuted(inputs, answers, self.cloze.candidates, numbers)

    def validation(self) -> Batch:
        """Return the validation questions and answers as one batch."""
        return self.inputs["val"], self.answers["val"]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy in nats per question."""
        inputs, answers = batch
        return F.cross_entropy(model(inputs), answers)

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss}

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return loss, accuracy and error (both in percent) over the whole split, in evaluation mode."""
        return evaluate_classes(model, self.inputs[split], self.answers[split], self.eval_batch_size)
