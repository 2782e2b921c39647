"""The published sets: counts, spelling and pixels as published."""

import gzip
import json
import lzma
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import data
from data import sentence_eval
from data.pairs import words
from data.settings import (
    BinarizedMNIST,
    BinaryData,
    Fiction,
    FractionText,
    ImageData,
    PairData,
    TextData,
)
from tests.helpers.datasets import SPLITS, assert_standardised, needs_files, pixels, refusal, spelled

PUBLISHED = [
    (TextData(name="ptb_char", unit="char"), (5017482, 393042, 442423), 50),
    (TextData(name="ptb_word", unit="word"), (929589, 73760, 82430), 10000),
    (TextData(name="wikitext2", unit="word"), (2088628, 217646, 245569), 33278),
    (FractionText(name="tinyshakespeare", unit="char"), (1003854, 55770, 55770), 65),
]


@needs_files
@pytest.mark.parametrize(("settings", "counts", "symbols"), PUBLISHED, ids=lambda value: getattr(value, "name", ""))
def test_text_has_the_published_counts(settings, counts, symbols):
    loaded = data.load(settings)
    assert tuple(len(loaded.tokens[split]) for split in SPLITS) == counts
    assert len(loaded.vocabulary) == len(set(loaded.vocabulary)) == symbols
    assert all(loaded.tokens[split].dtype == torch.int64 for split in SPLITS)
    assert len(loaded.tokens["train"].unique()) == symbols
    assert json.loads(json.dumps(loaded.manifest))["counts"] == dict(zip(SPLITS, counts, strict=True))


@needs_files
def test_text_is_spelled_as_published():
    char, word = (data.load(settings) for settings, *_ in PUBLISHED[:2])
    assert spelled(char, "train").startswith("aer_banknote_berlitz_")
    assert char.tokens["test"].bincount()[char.vocabulary.index("\n")] == 3761
    assert [word.vocabulary[index] for index in word.tokens["val"][:3]] == ["consumers", "may", "want"]
    assert spelled(data.load(PUBLISHED[3][0]), "train").startswith("First Citizen:\nBefore we proceed")


@needs_files
def test_binarized_mnist_rows():
    loaded = data.load(BinarizedMNIST())
    rows = {split: tokens.view(-1, loaded.row_length) for split, tokens in loaded.tokens.items()}
    assert {split: tuple(row.shape) for split, row in rows.items()} == {
        "train": (50000, 785),
        "val": (10000, 785),
        "test": (10000, 785),
    }
    assert all((row[:, 0] == loaded.vocabulary.index("<start>")).all() for row in rows.values())
    assert all(row[:, 1:].max() == 1 for row in rows.values())
    # The official text itself, read the slow way.
    with lzma.open(Path(os.environ["LAYERNORM_DATA"], "binarized_mnist/binarized_mnist_test.amat.xz"), "rt") as lines:
        first = [int(pixel) for pixel in next(lines).split()]
    assert rows["test"][0, 1:].tolist() == first


@needs_files
def test_binary_mnist_is_the_rows_of_binarized_mnist_as_images():
    rows, loaded = data.load(BinarizedMNIST()), data.load(BinaryData(name="binary_mnist", val_examples=100))
    assert [len(loaded.images[split]) for split in SPLITS] == [50000, 100, 10000]
    for split in ("val", "test"):
        pixels_of = rows.tokens[split].view(-1, 785)[: len(loaded.images[split]), 1:]
        assert torch.equal(loaded.images[split].flatten(1).long(), pixels_of)


@needs_files
@pytest.mark.parametrize(
    ("name", "counts", "shape", "per_class_in_test"),
    [("mnist", (55000, 5000, 10000), (1, 28, 28), None), ("cifar10", (45000, 5000, 10000), (3, 32, 32), 1000)],
)
def test_images_have_the_published_counts(name, counts, shape, per_class_in_test):
    loaded = data.load(ImageData(name=name, val=5000))
    assert tuple(len(loaded.labels[split]) for split in SPLITS) == counts
    assert all(tuple(loaded.images[split].shape[1:]) == shape for split in SPLITS)
    assert set(loaded.labels["train"].tolist()) == set(range(loaded.num_classes))
    if per_class_in_test:
        assert loaded.labels["test"].bincount().tolist() == [per_class_in_test] * 10
    assert_standardised(loaded)


@needs_files
def test_pixels_are_those_of_the_files():
    published = Path(os.environ["LAYERNORM_DATA"])
    packed = (published / "MNIST/raw/t10k-images-idx3-ubyte.gz").read_bytes()
    digits = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    assert torch.equal(pixels(data.load(ImageData(name="mnist", val=5000)), "test"), torch.tensor(digits))

    folder = published / "cifar-10-batches-py"
    batches = {
        file: pickle.loads((folder / file).read_bytes(), encoding="bytes")
        for file in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6)))
    }
    cifar = data.load(ImageData(name="cifar10", val=5000, train_examples=1000))
    test = batches.pop("test_batch")
    assert torch.equal(pixels(cifar, "test"), torch.tensor(test[b"data"]).view(-1, 3, 32, 32))
    assert cifar.labels["test"].tolist() == test[b"labels"]
    label_of = {
        image.tobytes(): label
        for batch in batches.values()
        for image, label in zip(batch[b"data"], batch[b"labels"], strict=True)
    }
    drawn = [label_of[image.numpy().tobytes()] for image in pixels(cifar, "train")]
    assert len(drawn) == 1000 and cifar.labels["train"].tolist() == drawn


PAIRS = [  # N, K, and the words in all sentences as the publisher counts them
    ("multi30k_translation", (29000, 1014, 1000), 2, {"train": 377534 + 360706, "val": 13308 + 12828}),
    ("multi30k_captions", (29000, 1014, 1000), 5, {"train": 1944108, "val": 68963, "test": 67456}),
    ("coco_captions", (4000, 500, 500), 5, {}),
]


@needs_files
@pytest.mark.parametrize(("name", "counts", "K", "words"), PAIRS, ids=lambda value: value if type(value) is str else "")
def test_sentences_have_the_published_counts(name, counts, K, words):
    whole = data.load(PairData(name=name, max_length=100, min_count=1))
    assert [tuple(whole.sentences[split].shape[:2]) for split in SPLITS] == [(count, K) for count in counts]
    assert {split: int((whole.sentences[split] != 0).sum()) for split in words} == words
    assert whole.vocabulary[:2] == ["<pad>", "<unk>"] and len(whole.vocabulary) == len(set(whole.vocabulary))
    assert whole.manifest["unknown"]["train"] == 0 < whole.manifest["unknown"]["test"]


@needs_files
def test_the_captions_of_an_image_are_shuffled_and_its_own():
    """Line i of the five files is of image i, the longest caption in the first file."""
    loaded = data.load(PairData(name="multi30k_captions", max_length=100, min_count=1))
    folder = Path(os.environ["LAYERNORM_DATA"], "multi30k")
    columns = [
        gzip.decompress((folder / f"task2.val.lc.norm.tok.{k}.en.gz").read_bytes()).decode().splitlines()
        for k in range(1, 6)
    ]
    known = set(loaded.vocabulary)
    for item, published in zip(loaded.sentences["val"].tolist(), zip(*columns, strict=True), strict=True):
        spelled_out = [" ".join(loaded.vocabulary[w] for w in sentence if w) for sentence in item]
        expected = [" ".join(w if w in known else "<unk>" for w in caption.split()) for caption in published]
        assert sorted(spelled_out) == sorted(expected)
    lengths = (loaded.sentences["train"] != 0).sum(-1).double().mean(0)
    assert lengths.max() - lengths.min() < 0.1, "every place has captions of every length"


def paragraphs(number: int) -> list[str]:
    """The paragraphs of a novel."""
    packed = Path(os.environ["LAYERNORM_DATA"], f"fiction/pg{number}.txt.gz").read_bytes()
    whole = gzip.decompress(packed).decode("latin-1").replace("\r\n", "\n")
    body = whole.split("*** START OF THIS PROJECT GUTENBERG")[1].split("\n", 1)[1]
    return re.split(r"\n\s*\n", body.split("*** END OF THIS PROJECT GUTENBERG")[0])


@needs_files
def test_novels_have_the_published_counts_and_their_text_in_order():
    """With room for every sentence and every word, and as they are handed over by default."""
    whole, loaded = data.load(Fiction(max_length=211, words=40_000)), data.load(Fiction())
    sentences = {split: len(whole.sentences[split]) for split in SPLITS}
    assert sum(sentences.values()) == 142243
    assert sum(int((whole.sentences[split] != 0).sum()) for split in SPLITS) == 2845026
    at_an_end = {split: sentences[split] - len(whole.middles[split]) for split in SPLITS}
    assert at_an_end == {"train": 2 * 22, "val": 2, "test": 2}, "the first and the last sentence of each novel"
    assert whole.vocabulary[:4] == ["<eos>", "<unk>", ",", "."] and whole.manifest["unknown"]["train"] == 0
    assert [len(loaded.middles[split]) for split in SPLITS] == [76539, 2642, 3184]
    assert len(loaded.vocabulary) == 20002 and loaded.manifest["baseline"]["test"] == pytest.approx(5.75742, abs=1e-5)

    given = [whole.vocabulary[word] for word in whole.sentences["test"].flatten().tolist() if word]
    known, closing = set(whole.vocabulary), ('"', "'", ")", "_")  # of which those that end a sentence are cut off
    expected = [word if word in known else "<unk>" for part in paragraphs(1874) for word in words(part)]
    assert [word for word in given if word not in closing] == [word for word in expected if word not in closing]
    assert "number 2" in refusal(Fiction(val_books=[2]))
    assert "must be different novels" in refusal(Fiction(val_books=[1874]))


@needs_files
def test_the_sets_that_judge_features_have_the_published_counts():
    sets = sentence_eval.load(None)
    assert {split: len(pairs.scores) for split, pairs in sets.sick.items()} == {
        "train": 4500,
        "trial": 500,
        "test": 4927,
    }
    assert {split: len(pairs.scores) for split, pairs in sets.msrp.items()} == {"train": 4076, "test": 1725}
    assert [sum(pairs.scores) for pairs in sets.msrp.values()] == [2753, 1147]
    assert [len(each.labels) for each in (sets.mr, sets.cr, sets.subj)] == [10662, 3771, 10000]
    assert [sum(each.labels) for each in (sets.mr, sets.cr, sets.subj)] == [5331, 2405, 5000]
    assert all(1 <= score <= 5 for pairs in sets.sick.values() for score in pairs.scores)
