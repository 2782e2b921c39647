"""Skip-thoughts: predict the sentences before and after a sentence."""

from typing import Any

import torch
from torch import Tensor

from data import Sentences
from experiments.training.protocols import Batch
from experiments.training.tasks.order import Order


class SentencePrediction:
    """Predict the neighbours of a sentence, word by word to their ends. An example is a sentence with both of them."""

    def __init__(self, content: Sentences, settings, seed: int, device: str):
        self.seed = seed
        self.root: str | None = settings.root
        self.vocabulary = content.vocabulary
        self.sentences = {split: sentences.to(device) for split, sentences in content.sentences.items()}
        self.middles = {split: middles.to(device) for split, middles in content.middles.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(self.middles["train"]), "sentences", settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = (3, self.sentences["train"].shape[1])
        self.num_classes = len(content.vocabulary)
        self.words = {split: self._words(split) for split in self.middles}

    def _words(self, split: str) -> int:
        """Return the words that are predicted in a split; a sentence's end is one."""
        lengths = (self.sentences[split] != 0).sum(1) + 1
        return int(sum(lengths[self.middles[split] + step].sum() for step in (-1, 1)))

    def _triples(self, split: str, chosen: Tensor) -> Tensor:
        """Return sentences between their neighbours, (N, 3, T)."""
        return self.sentences[split][chosen[:, None] + torch.arange(-1, 2, device=chosen.device)]

    def batch(self, step: int) -> Batch:
        """Return the sentences of a training step between their neighbours (N, 3, T), twice: they are predicted too."""
        triples = self._triples("train", self.middles["train"][self.order(step)])
        return triples, triples

    def validation(self) -> Batch:
        """Return the validation sentences between their neighbours as one batch, twice."""
        triples = self._triples("val", self.middles["val"])
        return triples, triples

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean -log likelihood in nats per word, of training neighbours of mean length.

        Divided by the batch's own words, the shards of a batch would weigh unequally.
        """
        return model(batch[0]).sum(1).mean() * len(self.middles["train"]) / self.words["train"]

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss}

    @torch.no_grad()
    def evaluate(self, model: Any, split: str) -> dict[str, float]:
        """Return -log likelihood per word of all neighbours in the split, in evaluation mode."""
        model.eval()
        chunks = self.middles[split].split(self.eval_batch_size)
        nats = sum(model(self._triples(split, chunk)).double().sum().item() for chunk in chunks)
        return self.metrics(nats / self.words[split])
