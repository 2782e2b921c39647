"""Texts sentence by sentence: readers of each source, and the examples, sentences with both their neighbours.

A reader makes for each split a list of texts, each a list of sentences in order, and a sentence is a list of words.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from . import files
from .files import DataError, Source
from .pairs import Sentence, documentation, words
from .settings import Fiction, PythonDocsSentences, SentenceData
from .text import EOS, UNK, deal_blocks
from .types import Sentences

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "val", "test")


def assemble(settings: SentenceData, arrays: dict[str, np.ndarray], manifest: dict) -> Sentences:
    """Return the splits, the validation examples at most as many as the settings say."""
    import torch

    sentences = {split: torch.from_numpy(arrays[f"{split}_sentences"].astype(np.int64)) for split in SPLITS}
    middles = {split: torch.from_numpy(arrays[f"{split}_middles"].astype(np.int64)) for split in SPLITS}
    count, wanted = len(middles["val"]), settings.val_examples
    if wanted is not None and wanted > count:
        raise DataError(
            f"{settings.name}: data.val_examples={wanted}, and its val split has {count} sentences with two "
            f"neighbours; nearest: {count}"
        )
    if wanted is not None:
        middles["val"] = middles["val"][torch.arange(wanted) * count // wanted]
    vocabulary = json.loads(arrays["vocabulary"].tobytes())
    unknown = {split: ((x == 1).sum() / (x != 0).sum()).item() for split, x in sentences.items()}
    return Sentences(
        sentences,
        middles,
        vocabulary,
        manifest
        | {"counts": {split: len(middles[split]) for split in SPLITS}}
        | {"sentences": {split: len(sentences[split]) for split in SPLITS}}
        | {"unknown": {split: round(share, 6) for split, share in unknown.items()}}
        | {"baseline": unigram(sentences, middles, len(vocabulary))},
    )


def unigram(sentences: dict[str, "Tensor"], middles: dict[str, "Tensor"], V: int) -> dict[str, float]:
    """Return -log p in nats per word of the neighbours, of a model that knows how often each word occurs in training.

    A sentence's end is a word. Each word is counted once more than it occurs.
    """
    counts = {}
    for split in SPLITS:
        neighbours = np.concatenate([sentences[split][middles[split] + step].numpy() for step in (-1, 1)])
        occurring = np.bincount(neighbours.ravel(), minlength=V)
        occurring[0] = len(neighbours)  # one end of each, however much padding
        counts[split] = occurring
    log_p = np.log(counts["train"] + 1) - np.log((counts["train"] + 1).sum())
    return {split: float(-(count * log_p).sum() / count.sum()) for split, count in counts.items()}


# -- Words -> numbers --------------------------------------------------------------------------------------------------


def encode(settings: SentenceData, splits: dict[str, list[list[Sentence]]]) -> dict[str, np.ndarray]:
    """Return a split's sentences (S, T), 0 behind their ends, which of them have both neighbours, and the vocabulary.

    Sentences of more than max_length words are left out, and no sentence is predicted by or from them.
    """
    counts: Counter[str] = Counter()
    for text in splits["train"]:
        for sentence in text:
            counts.update(sentence)
    known = [word for word, _ in counts.most_common(settings.words)]
    vocabulary = [EOS, UNK, *known]
    index_of = {word: index for index, word in enumerate(vocabulary)}
    arrays = {"vocabulary": np.frombuffer(json.dumps(vocabulary).encode(), np.uint8)}
    for split, texts in splits.items():
        kept: list[Sentence] = []
        places: list[int] = []  # of the sentences that are kept; two texts are a place apart
        place = 0
        for text in texts:
            for sentence in text:
                if len(sentence) <= settings.max_length:
                    kept.append(sentence)
                    places.append(place)
                place += 1
            place += 1
        middles = [k for k in range(1, len(kept) - 1) if places[k + 1] - places[k - 1] == 2]
        if not middles:
            raise DataError(
                f"{settings.name}: no sentence of the {split} split has two neighbours with at most data.max_length="
                f"{settings.max_length} words; give a larger one, or other splits"
            )
        numbers = np.zeros((len(kept), settings.max_length), np.min_scalar_type(len(vocabulary)))
        for row, sentence in zip(numbers, kept, strict=True):
            row[: len(sentence)] = [index_of.get(word, 1) for word in sentence]
        arrays[f"{split}_sentences"] = numbers
        arrays[f"{split}_middles"] = np.array(middles, np.int32)
    return arrays


def encoded(sentences: list[Sentence], vocabulary: list[str]) -> "Tensor":
    """Return other sentences as numbers (N, T) of the vocabulary, 0 behind their ends; an empty one is an <unk>."""
    import torch

    index_of = {word: index for index, word in enumerate(vocabulary)}
    rows = [[index_of.get(word, 1) for word in sentence] or [1] for sentence in sentences]
    numbers = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for n, row in enumerate(rows):
        numbers[n, : len(row)] = torch.tensor(row)
    return numbers


# -- Readers: settings, verified sources -> what the cache stores ------------------------------------------------------


def fiction(settings: Fiction, sources: list[Source]) -> dict[str, np.ndarray]:
    """Novels, each a text. Headings of chapters stay, as short sentences."""
    books = {int(PurePath(source.file).stem.removeprefix("pg")): source for source in sources}
    held_out = [*settings.val_books, *settings.test_books]
    if unknown := [book for book in held_out if book not in books]:
        raise DataError(
            f"{settings.name}: no novel here is number {unknown[0]}; there are {', '.join(map(str, books))}"
        )
    if not (settings.val_books and settings.test_books and len(set(held_out)) == len(held_out) < len(books)):
        raise DataError(
            f"{settings.name}: val_books={settings.val_books} and test_books={settings.test_books} must be different "
            f"novels, one each at least, and leave some of the {len(books)} to train on"
        )
    numbers = {
        "train": [book for book in books if book not in held_out],
        "val": list(settings.val_books),
        "test": list(settings.test_books),
    }
    return encode(settings, {split: [list(_novel(books[n])) for n in chosen] for split, chosen in numbers.items()})


# What is between the end of a sentence and a capital, the quotes and brackets that close it too; not behind a title.
BOUNDARY = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<=[.!?])[\"')_]*\s+(?=[\"'(_]*[A-Z])")
START = re.compile(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*\*\*", re.DOTALL)
END = re.compile(r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG")


def _novel(source: Source) -> Iterator[Sentence]:
    """Yield the sentences between Project Gutenberg's header and footer."""
    with files.unpacked(source.path) as stream:
        whole = stream.read().decode("latin-1").replace("\r\n", "\n")
    begin, end = START.search(whole), END.search(whole)
    assert begin and end, source.file  # as in every file with its checksum
    for paragraph in re.split(r"\n\s*\n", whole[begin.end() : end.start()]):
        for sentence in BOUNDARY.split(" ".join(paragraph.split())):
            if spelled := words(sentence):
                yield spelled


def python_docs(settings: PythonDocsSentences, sources: list[Source]) -> dict[str, np.ndarray]:
    """Sentences of the language reference, cut into equal blocks, each a text, that are dealt out to the splits."""
    sentences = [sentence for sentence in documentation() if sentence]
    dealt = deal_blocks(settings, len(sentences), "sentences")
    return encode(settings, {split: [sentences[block] for block in blocks] for split, blocks in dealt.items()})
