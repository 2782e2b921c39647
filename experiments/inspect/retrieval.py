"""Sentences that a trained order embedding finds by another: those of the validation split with the highest scores."""

import sys

import torch

from data.pairs import words
from data.text import UNK
from experiments.training.load import Trained
from models.order_embedding import PADDING, scores

FOUND = 5  # sentences printed for each one given


@torch.no_grad()
def print_neighbours(trained: Trained, prompt: str, samples: int, seed: int, found: int | None) -> None:
    """Print each query and below it the second sentences that are nearest to it, with their scores, the best first.

    The query is the prompt, or without one the first sentence of the pairs number seed, seed + 1, ...; its own partner
    is marked with a star. Says on stderr which words of the prompt the vocabulary lacks.
    """
    torch.set_num_threads(trained.cfg.threads)
    pairs, _ = trained.task().validation()
    targets = torch.cat([trained.model.encode(chunk, 1) for chunk in pairs[:, 1].split(trained.cfg.data.batch_size)])
    print(f"{trained}; {len(pairs)} sentences of the validation split", file=sys.stderr)
    if prompt:
        queries, partners = encoded(trained, prompt)[None], [-1]
    else:
        partners = [(seed + k) % len(pairs) for k in range(samples)]
        queries = pairs[partners, 0]
    S = scores(trained.model.encode(queries, 0), targets)
    best, indices = S.topk(min(found or FOUND, len(targets)))
    for query, partner, values, numbers in zip(queries, partners, best.tolist(), indices.tolist(), strict=True):
        print(spelled(trained, query))
        for value, number in zip(values, numbers, strict=True):
            print(f"  {value:8.4f} {'*' if number == partner else ' '} {spelled(trained, pairs[number, 1])}")


def encoded(trained: Trained, prompt: str) -> torch.Tensor:
    """Return the prompt's words as numbers, the first max_length of them."""
    index_of = {word: index for index, word in enumerate(trained.vocabulary)}
    given = words(prompt)[: trained.cfg.data.max_length] or [UNK]
    if unknown := [word for word in dict.fromkeys(given) if word not in index_of]:
        print(f"not in the vocabulary, read as {UNK}: {' '.join(unknown)}", file=sys.stderr)
    return torch.tensor([index_of.get(word, index_of[UNK]) for word in given])


def spelled(trained: Trained, sentence: torch.Tensor) -> str:
    return " ".join(trained.vocabulary[index] for index in sentence.tolist() if index != PADDING)
