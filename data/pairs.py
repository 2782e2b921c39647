"""Sentences that belong together: readers of each source, and the vocabulary.

A reader makes for each split a list of items, each of K sentences, and a sentence is a list of words.
"""

import gzip
import json
import re

import numpy as np

from .files import DataError, Source
from .settings import PairData, PythonDocsPairs
from .text import UNK, language_reference
from .types import Pairs

PAD = "<pad>"
SHUFFLE_SEED = 0  # of the order of an item's sentences, where they are published in an order that means something
COCO_SPLIT = (4000, 4500)  # of the 5000 images in the order of their numbers: training, validation, test
COCO_CAPTIONS = 5  # of an image; thirteen have one or two more
SHORTEST, LONGEST = 8, 40  # words of a sentence that is cut into a beginning and an end

Sentence = list[str]
Items = list[list[Sentence]]


def assemble(settings: PairData, arrays: dict[str, np.ndarray], manifest: dict) -> Pairs:
    """Return the splits, the training items at most as many as the settings say."""
    import torch

    sentences = {split: torch.from_numpy(arrays[split].astype(np.int64)) for split in ("train", "val", "test")}
    count, wanted = len(sentences["train"]), settings.train_examples
    if wanted is not None and wanted > count:
        raise DataError(
            f"{settings.name}: data.train_examples={wanted}, and its train split has {count} items; nearest: {count}"
        )
    sentences["train"] = sentences["train"][:wanted]
    counts = {split: len(items) for split, items in sentences.items()}
    shares = {split: ((items == 1).sum() / (items != 0).sum()).item() for split, items in sentences.items()}
    unknown = {split: round(share, 6) for split, share in shares.items()}
    vocabulary = json.loads(arrays["vocabulary"].tobytes())
    return Pairs(sentences, vocabulary, manifest | {"counts": counts, "unknown": unknown})


# -- Words -> numbers --------------------------------------------------------------------------------------------------


def encode(settings: PairData, splits: dict[str, Items]) -> dict[str, np.ndarray]:
    """Return a split's sentences as (N, K, T), 0 behind a sentence's end, and the packed vocabulary.

    The vocabulary is that of the training sentences, the most frequent word first; T is the longest sentence's length.
    """
    counts: dict[str, int] = {}
    for item in splits["train"]:
        for sentence in item:
            for word in sentence[: settings.max_length]:
                counts[word] = counts.get(word, 0) + 1
    known = [word for word, count in counts.items() if count >= settings.min_count]
    vocabulary = [PAD, UNK, *sorted(set(known) - {PAD, UNK}, key=lambda word: (-counts[word], word))]
    index_of = {word: index for index, word in enumerate(vocabulary)}
    unknown = index_of[UNK]
    everything = [sentence for items in splits.values() for item in items for sentence in item]
    T = min(max(map(len, everything)), settings.max_length)
    arrays = {}
    for split, items in splits.items():
        numbers = np.zeros((len(items), len(items[0]), T), np.min_scalar_type(len(vocabulary)))
        for n, item in enumerate(items):
            for k, sentence in enumerate(item):
                words = sentence[:T] or [UNK]  # a sentence has one word at least
                numbers[n, k, : len(words)] = [index_of.get(word, unknown) for word in words]
        arrays[split] = numbers
    return {**arrays, "vocabulary": np.frombuffer(json.dumps(vocabulary).encode(), np.uint8)}


# -- Readers: settings, verified sources -> what the cache stores ------------------------------------------------------


def multi30k_captions(settings: PairData, sources: list[Source]) -> dict[str, np.ndarray]:
    """Five English captions of each image, written without knowledge of each other.

    They are published by their length, the longest first, which would tell query and answer apart: shuffled here.
    """
    generator = np.random.default_rng(SHUFFLE_SEED)
    splits = {}
    for number, split in enumerate(("train", "val", "test")):
        columns = [_lines(source) for source in sources[5 * number : 5 * number + 5]]
        orders = generator.permuted(np.tile(np.arange(5), (len(columns[0]), 1)), axis=1)
        items = zip(*columns, strict=True)
        splits[split] = [[item[k] for k in order] for item, order in zip(items, orders, strict=True)]
    return encode(settings, splits)


def multi30k_translation(settings: PairData, sources: list[Source]) -> dict[str, np.ndarray]:
    """An English caption and its German translation. The two languages have one vocabulary, equal words one number."""
    english_and_german = zip(sources[::2], sources[1::2], strict=True)
    splits = {
        split: [list(pair) for pair in zip(_lines(english), _lines(german), strict=True)]
        for split, (english, german) in zip(("train", "val", "test"), english_and_german, strict=True)
    }
    return encode(settings, splits)


def _lines(source: Source) -> list[Sentence]:
    with gzip.open(source.path, "rt", encoding="utf-8", newline="\n") as stream:
        return [line.split() for line in stream.read().removesuffix("\n").split("\n")]


def coco_captions(settings: PairData, sources: list[Source]) -> dict[str, np.ndarray]:
    """The first five captions of each of the 5000 images of val2017. No split of them is published: by image number."""
    [source] = sources
    with gzip.open(source.path) as stream:
        annotations = json.load(stream)["annotations"]
    by_image: dict[int, list[Sentence]] = {}
    for annotation in sorted(annotations, key=lambda annotation: annotation["id"]):
        by_image.setdefault(annotation["image_id"], []).append(words(annotation["caption"]))
    items = [by_image[image][:COCO_CAPTIONS] for image in sorted(by_image)]
    first, second = COCO_SPLIT
    return encode(settings, {"train": items[:first], "val": items[first:second], "test": items[second:]})


def python_docs(settings: PythonDocsPairs, sources: list[Source]) -> dict[str, np.ndarray]:
    """Of each sentence of the language reference the first and the last two thirds, so that a third is in both."""
    distinct = dict.fromkeys(tuple(s) for s in documentation() if SHORTEST <= len(s) <= LONGEST)
    items = [[list(s[: -(len(s) // 3)]), list(s[len(s) // 3 :])] for s in distinct]
    total, val, test = len(items), settings.val, settings.test
    if val + test >= total:
        raise DataError(
            f"{settings.name}: val={val} and test={test} leave nothing of {total} sentences to train on; give less"
        )
    order = np.random.default_rng(settings.split_seed).permutation(total)
    drawn_test, drawn_val, train = np.split(order, [test, test + val])
    drawn = {"train": train, "val": drawn_val, "test": drawn_test}
    return encode(settings, {split: [items[n] for n in numbers] for split, numbers in drawn.items()})


def documentation() -> list[Sentence]:
    """Return the sentences of the language reference, in order."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\n+", language_reference())]
    return [words(s) for paragraph in paragraphs for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph)]


def words(sentence: str) -> Sentence:
    """Lower-case words, with what follows an apostrophe, and each other sign."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[^\sa-z0-9]", sentence.lower())
