"""Sentences of the validation split that a trained network finds by another: those with the highest scores."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from data.pairs import words
from data.text import UNK
from experiments.training.load import Trained
from experiments.training.tasks import SentencePrediction
from models.order_embedding import PADDING, scores

FOUND = 5  # sentences printed for each one given


@dataclass(frozen=True)
class Search:
    """Sentences (M, T) to be found, and the queries of the validation split (N, T).

    score: queries (Q, T) -> (Q, M), the nearest highest. own: of each query the numbers of the sentences that belong to
    it. itself: of each query its own number among the sentences, None where it is none of them.
    """

    sentences: Tensor
    queries: Tensor
    score: Callable[[Tensor], Tensor]
    own: list[list[int]]
    itself: Sequence[int | None]


@torch.no_grad()
def print_neighbours(trained: Trained, prompt: str, samples: int, seed: int, found: int | None) -> None:
    """Print each query and below it the sentences that are nearest to it, with their scores, the best first.

    The query is the prompt, or without one the query number seed, seed + 1, ... of the validation split; what belongs
    to it there is marked with a star, and it does not find itself. Says on stderr which words of the prompt the
    vocabulary lacks.
    """
    torch.set_num_threads(trained.cfg.threads)
    search = SEARCHES[trained.cfg.model.kind](trained)
    print(f"{trained}; {len(search.sentences)} sentences of the validation split", file=sys.stderr)
    if prompt:
        _print_found(trained, search, encoded(trained, prompt), found or FOUND)
        return
    for n in (number % len(search.queries) for number in range(seed, seed + samples)):
        _print_found(trained, search, search.queries[n], found or FOUND, search.own[n], search.itself[n])


def _print_found(
    trained: Trained, search: Search, query: Tensor, found: int, own: Sequence[int] = (), itself: int | None = None
) -> None:
    score = search.score(query[None])[0]
    numbers = [number for number in score.argsort(descending=True, stable=True).tolist() if number != itself]
    print(spelled(trained, query))
    for number in numbers[:found]:
        star = "*" if number in own else " "
        print(f"  {score[number]:8.4f} {star} {spelled(trained, search.sentences[number])}")


def _second_by_first(trained: Trained) -> Search:
    """Find the second sentences of pairs by their first ones, by the order of their embeddings."""
    pairs, _ = trained.task().validation()
    first, second = pairs[:, 0], pairs[:, 1]
    targets = torch.cat([trained.model.encode(chunk, 1) for chunk in second.split(trained.cfg.data.batch_size)])
    partners = [[n] for n in range(len(pairs))]
    return Search(second, first, lambda q: scores(trained.model.encode(q, 0), targets), partners, [None] * len(pairs))


def _other_sentences(trained: Trained) -> Search:
    """Find sentences by the cosine between their states; those before and after a query belong to it."""
    task = trained.task()
    assert isinstance(task, SentencePrediction)  # the data of this kind
    sentences, middles = task.sentences["val"], task.middles["val"]

    def directions(given: Tensor) -> Tensor:
        chunks = given.split(trained.cfg.data.eval_batch_size)
        return F.normalize(torch.cat([trained.model.encode(chunk) for chunk in chunks]))

    states = directions(sentences)
    rows = middles.tolist()
    own = [[row - 1, row + 1] for row in rows]
    return Search(sentences, sentences[middles], lambda q: directions(q) @ states.t(), own, rows)


SEARCHES: dict[str, Callable[[Trained], Search]] = {  # by the kind of data
    "pairs": _second_by_first,
    "sentences": _other_sentences,
}


def encoded(trained: Trained, prompt: str) -> Tensor:
    """Return the prompt's words as numbers, the first max_length of them."""
    index_of = {word: index for index, word in enumerate(trained.vocabulary)}
    given = words(prompt)[: trained.cfg.data.max_length] or [UNK]
    if unknown := [word for word in dict.fromkeys(given) if word not in index_of]:
        print(f"not in the vocabulary, read as {UNK}: {' '.join(unknown)}", file=sys.stderr)
    return torch.tensor([index_of.get(word, index_of[UNK]) for word in given])


def spelled(trained: Trained, sentence: Tensor) -> str:
    return " ".join(trained.vocabulary[index] for index in sentence.tolist() if index != PADDING)
