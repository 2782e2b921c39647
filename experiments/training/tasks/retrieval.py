"""Retrieval: find among many sentences the one that belongs to a given one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Pairs
from experiments.training.protocols import Batch
from experiments.training.tasks.order import Order
from models.order_embedding import scores

CHUNK = 8  # sources that are compared with all targets at a time: 8 x 1000 x H numbers


class Retrieval:
    """Rank sentences. An example is a pair of sentences, of which the first is the source, the second the target.

    Where an item has more than two sentences, each training step draws two of them; evaluation takes the first two. The
    negatives of a pair are the other pairs of its batch: of one item, as an image, a batch holds one pair.
    """

    def __init__(self, pairs: Pairs, settings, seed: int, device: str):
        self.seed = seed
        self.sentences = {split: sentences.to(device) for split, sentences in pairs.sentences.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.candidates: int = settings.candidates
        self.order = Order(len(self.sentences["train"]), "pairs", settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = (2, self.sentences["train"].shape[2])
        self.num_classes = len(pairs.vocabulary)

    def batch(self, step: int) -> Batch:
        """Return the pairs (N, 2, T) of a training step, twice: one sentence is to be found by the other."""
        items = self.sentences["train"][self.order(step)]
        if items.shape[1] > 2:
            drawn = np.random.default_rng((self.seed, step)).random(items.shape[:2]).argsort(1)[:, :2]
            chosen = torch.from_numpy(drawn).to(items.device)
            items = items.gather(1, chosen[:, :, None].expand(-1, -1, items.shape[2]))
        return items, items

    def validation(self) -> Batch:
        """Return the validation pairs as one batch, twice."""
        pairs = self.sentences["val"][:, :2]
        return pairs, pairs

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the ranking loss of a batch, the mean over its pairs; over several ranks, of each shard by itself."""
        return model.ranking_loss(model(batch[0]))

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss}

    @torch.no_grad()
    def evaluate(self, model: Any, split: str) -> dict[str, float]:
        """Return the loss over batches of the training batch size, and how well each side finds the other.

        Of the loss the last incomplete batch is left out, where there is a whole one, since it has fewer negatives. The
        ranks are those among the first `candidates` pairs.
        """
        model.eval()
        pairs = self.sentences[split][:, :2]
        embeddings = torch.cat([model(chunk) for chunk in pairs.split(self.eval_batch_size)])
        batches = embeddings[: len(pairs) // self.batch_size * self.batch_size or len(pairs)].split(self.batch_size)
        loss = sum(model.ranking_loss(batch).item() for batch in batches) / len(batches)
        a, b = embeddings[: self.candidates].unbind(1)
        S = torch.cat([scores(chunk, b) for chunk in a.split(CHUNK)])
        return {**self.metrics(loss), **retrieval_metrics(S)}


def retrieval_metrics(S: Tensor) -> dict[str, float]:
    """Return recalls and ranks of scores (N, N), whose diagonal is of the pairs.

    target_*: of the targets found by their sources, along the rows; source_*: the other way round. r1, r5, r10: percent
    with a rank of at most that; rsum: the sum of the six.
    """
    by_side = {"target": ranks(S), "source": ranks(S.t())}
    recalls = {f"{side}_r{k}": recall(found, k) for side, found in by_side.items() for k in (1, 5, 10)}
    metrics = {"rsum": sum(recalls.values()), **recalls}
    for side, found in by_side.items():
        metrics |= {f"{side}_mean_rank": found.mean().item(), f"{side}_median_rank": found.quantile(0.5).item()}
    return metrics


def recall(ranks: Tensor, k: int) -> float:
    """Return the percentage of ranks that are at most k."""
    return 100.0 * (ranks <= k).double().mean().item()


def ranks(S: Tensor) -> Tensor:
    """Return the rank (N,) of the right candidate of each row, the diagonal; 1 is best.

    Of candidates with the same score each half counts as better: a network that tells nothing apart has the mean rank
    of one that guesses, and no recall.
    """
    over_right = S - S.diag()[:, None]
    better, equal = (over_right > 0).sum(1), (over_right == 0).sum(1) - 1
    return 1 + better + equal.double() / 2
