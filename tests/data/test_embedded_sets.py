"""The sets that need no file: disjoint and seeded splits, noise, pooling."""

import collections
import hashlib
import math
import re

import pytest
import torch

import data
from data import text
from data.pairs import documentation, words
from data.settings import (
    BinaryDigits,
    NoisyDigits,
    PythonDocs,
    PythonDocsPairs,
    PythonDocsSentences,
)
from tests.helpers.datasets import SPLITS, assert_standardised, digits, pixels, refusal, spelled


def test_python_docs_needs_no_file_and_repeats_nothing(monkeypatch):
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    loaded = data.load(PythonDocs())
    train = " ".join(spelled(loaded, "train").split())
    paragraphs = {split: re.split(r"\n\n+", spelled(loaded, split)) for split in ("val", "test")}
    long = [" ".join(paragraph.split()) for split in paragraphs for paragraph in paragraphs[split]]
    long = [paragraph for paragraph in long if len(paragraph) > 80]
    assert len(long) > 100
    assert [paragraph for paragraph in long if paragraph in train] == []
    assert all(ord(character) < 128 for character in loaded.vocabulary)


def test_python_docs_blocks():
    whole = text.language_reference()
    loaded = data.load(PythonDocs(blocks=4, val_blocks=[1], test_blocks=[3]))
    quarter = len(whole) / 4
    assert spelled(loaded, "val") == whole[int(quarter) : int(2 * quarter)]
    assert spelled(loaded, "test") == whole[int(3 * quarter) :]
    assert spelled(loaded, "train") == whole[: int(quarter)] + whole[int(2 * quarter) : int(3 * quarter)]
    assert loaded.manifest["sources"][0]["sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    assert "val_blocks=[3]" in refusal(PythonDocs(val_blocks=[3], test_blocks=[3]))
    assert "test_blocks=[20]" in refusal(PythonDocs(test_blocks=[20]))


def sentences_of(loaded, split):
    return [
        tuple(tuple(loaded.vocabulary[w] for w in sentence if w) for sentence in item)
        for item in loaded.sentences[split].tolist()
    ]


def test_pairs_of_python_docs_are_the_two_ends_of_sentences(monkeypatch):
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    loaded = data.load(PythonDocsPairs(min_count=1))
    pairs = {split: sentences_of(loaded, split) for split in SPLITS}
    assert len(pairs["val"]) == len(pairs["test"]) == 300 and len(pairs["train"]) > 1000
    assert not set(pairs["train"]) & {*pairs["val"], *pairs["test"]} and not set(pairs["val"]) & set(pairs["test"])
    text_of_all = " ".join(words(text.language_reference()))
    for beginning, end in pairs["train"][:200]:
        overlap = len(beginning) + len(end) - (whole := next(n for n in range(8, 41) if n - n // 3 == len(end)))
        if beginning[-overlap:] != end[:overlap]:  # lengths of two sentences share the length of an end
            whole, overlap = whole + 1, overlap - 1
        assert beginning[-overlap:] == end[:overlap] and whole // 3 <= overlap + 1
        assert " ".join((*beginning, *end[overlap:])) in text_of_all


def test_rare_words_are_unknown_and_long_sentences_are_cut():
    """The vocabulary is that of the training sentences, the most frequent first."""
    loaded, cut = data.load(PythonDocsPairs(min_count=3)), data.load(PythonDocsPairs(min_count=3, max_length=10))
    counted = collections.Counter(
        word for item in sentences_of(data.load(PythonDocsPairs(min_count=1)), "train") for s in item for word in s
    )
    frequent = {word: count for word, count in counted.items() if count >= 3}
    assert set(loaded.vocabulary[2:]) == set(frequent)
    assert [frequent[word] for word in loaded.vocabulary[2:]] == sorted(frequent.values(), reverse=True)
    unknown = sum(counted[word] for word in counted.keys() - frequent.keys()) / counted.total()
    assert loaded.manifest["unknown"]["train"] == pytest.approx(unknown, abs=1e-5) and unknown > 0
    assert cut.sentences["train"].shape[2] == 10 and (cut.sentences["test"][:, :, 0] > 0).all()
    few = data.load(PythonDocsPairs(min_count=3, train_examples=9))
    assert torch.equal(few.sentences["train"], loaded.sentences["train"][:9])
    assert "train_examples=99999" in refusal(PythonDocsPairs(train_examples=99999))
    assert "leave nothing" in refusal(PythonDocsPairs(val=3000))


def test_sentences_of_python_docs_stand_in_their_order(monkeypatch):
    """Examples against a walk over the blocks: all three sentences short enough, and of one block."""
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    loaded = data.load(PythonDocsSentences(max_length=12, words=10_000, blocks=8, val_blocks=[2], test_blocks=[5, 7]))
    whole = [sentence for sentence in documentation() if sentence]
    edges = [len(whole) * block // 8 for block in range(9)]
    known = set(loaded.vocabulary)
    for split, blocks in (("train", (0, 1, 3, 4, 6)), ("val", (2,)), ("test", (5, 7))):
        expected = []
        for block in blocks:
            text_of_block = whole[edges[block] : edges[block + 1]]
            for three in zip(text_of_block, text_of_block[1:], text_of_block[2:], strict=False):
                if all(len(sentence) <= 12 for sentence in three):
                    expected.append([[w if w in known else "<unk>" for w in sentence] for sentence in three])
        given = [
            [
                [loaded.vocabulary[w] for w in row if w]
                for row in loaded.sentences[split][middle - 1 : middle + 2].tolist()
            ]
            for middle in loaded.middles[split].tolist()
        ]
        assert given == expected and len(given) > 5
    assert loaded.manifest["counts"]["val"] == len(loaded.middles["val"])


def test_words_of_sentences_are_the_most_frequent_ones_and_the_baseline_their_entropy():
    loaded, whole = data.load(PythonDocsSentences(words=100)), data.load(PythonDocsSentences(words=10_000))
    assert loaded.vocabulary[:2] == ["<eos>", "<unk>"] and loaded.vocabulary == whole.vocabulary[:102]
    counts = {split: collections.Counter() for split in ("train", "test")}
    for split, counter in counts.items():
        for middle in loaded.middles[split].tolist():
            for neighbour in (middle - 1, middle + 1):
                counter.update([w for w in loaded.sentences[split][neighbour].tolist() if w] + [0])
    total = sum(count + 1 for count in counts["train"].values()) + 102 - len(counts["train"])
    nats = -sum(n * math.log((counts["train"][word] + 1) / total) for word, n in counts["test"].items())
    assert loaded.manifest["baseline"]["test"] == pytest.approx(nats / counts["test"].total())
    few = data.load(PythonDocsSentences(val_examples=10))
    count = len(whole.middles["val"])
    assert few.middles["val"].tolist() == [whole.middles["val"][n * count // 10].item() for n in range(10)]
    assert f"nearest: {count}" in refusal(PythonDocsSentences(val_examples=99999))
    assert "max_length=1" in refusal(PythonDocsSentences(max_length=1))


def rows_of(images):
    return {tuple(image.flatten().tolist()) for image in images}


def test_digits_split_is_disjoint_seeded_and_nested():
    loaded, smaller, other = (data.load(digits(**c)) for c in ({}, {"train_examples": 200}, {"split_seed": 1}))
    assert [len(loaded.labels[split]) for split in SPLITS] == [1197, 300, 300]
    assert_standardised(loaded)

    def raw(images, split):
        return rows_of(pixels(images, split))

    for one, two in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not raw(loaded, one) & raw(loaded, two)
    assert len(raw(smaller, "train")) == 200 and raw(smaller, "train") < raw(loaded, "train")
    assert raw(smaller, "test") == raw(loaded, "test") != raw(other, "test")
    assert "do not fit into 1797" in refusal(digits(val=1500))
    assert "train_examples=1198" in refusal(digits(train_examples=1198))


def test_binary_digits_are_the_digits_from_half_their_intensity_on():
    loaded, smaller, whole = data.load(BinaryDigits()), data.load(BinaryDigits(train_examples=9)), data.load(digits())
    assert [len(loaded.images[split]) for split in SPLITS] == [1197, 300, 300]
    assert loaded.images["test"].shape[1:] == (1, 8, 8) and torch.equal(
        smaller.images["train"], loaded.images["train"][:9]
    )
    bits = {split: (pixels(whole, split) >= 8).float() for split in SPLITS}
    assert all(torch.equal(loaded.images[split], bits[split]) for split in SPLITS)
    assert "train_examples=1198" in refusal(BinaryDigits(train_examples=1198))
    assert "leave nothing of 1797" in refusal(BinaryDigits(val=1000, test=797))


def test_noisy_digits():
    clean = data.load(NoisyDigits(noise=0, max_shift=0, contrast_low=1, contrast_high=1, copies=1, eval_copies=1))
    underlying = {split: rows_of(clean.images[split]) for split in SPLITS}
    assert [len(underlying[split]) for split in SPLITS] == [1000, 397, 400]
    assert not underlying["train"] & underlying["val"]
    assert not underlying["train"] & underlying["test"]
    assert not underlying["val"] & underlying["test"]

    noisy, fewer = data.load(NoisyDigits()), data.load(NoisyDigits(train_examples=100, copies=3))
    assert [len(noisy.labels[split]) for split in SPLITS] == [2000, 1985, 2000]
    assert noisy.images["test"].shape[1:] == (1, 12, 12)
    assert_standardised(noisy)
    # What is set for training does not touch the test images (up to the standardisation, which is train's).
    assert len(fewer.labels["train"]) == 300
    unscaled = [
        images.images["test"] * images.manifest["sd"][0] + images.manifest["mean"][0] for images in (noisy, fewer)
    ]
    torch.testing.assert_close(*unscaled, atol=1e-5, rtol=0)
    # The canvas' corners hold noise alone, unless a digit was moved there by two pixels both ways.
    corner_sd = unscaled[0][:, 0, 0, 0].std().item()
    assert 0.2 < corner_sd < 0.3
    assert "max_shift=3" in refusal(NoisyDigits(max_shift=3))


def test_the_shift_reaches_every_side():
    moved = data.load(NoisyDigits(noise=0, contrast_low=1, contrast_high=1))
    ink = (moved.images["train"] > moved.images["train"].min()).any(0)[0]
    assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()


def test_pooling_averages_squares_and_standardises_after():
    pooled = data.load(digits(pool=2))
    assert pooled.images["test"].shape == (300, 1, 4, 4)
    assert_standardised(pooled)
    mean, sd = pooled.manifest["mean"][0], pooled.manifest["sd"][0]
    intensities = pixels(data.load(digits()), "test").float()
    for row, column in ((0, 1), (3, 2)):
        square = intensities[:, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        got = pooled.images["test"][:, 0, row, column] * sd + mean
        torch.testing.assert_close(got, square.mean((1, 2)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("pool", "nearest"), [(3, 2), (0, 1), (-2, 1), (100, 8)])
def test_pooling_that_leaves_a_rest_is_refused(pool, nearest):
    message = refusal(digits(pool=pool))
    assert f"data.pool={pool}" in message and "8 x 8" in message
    assert message.endswith(f"allowed: 1, 2, 4, 8; nearest: {nearest}")
