"""The sets that need no file: disjoint and seeded splits, noise, pooling."""

import hashlib
import re

import pytest
import torch

import data
from data import text
from data.settings import (
    BinaryDigits,
    NoisyDigits,
    PythonDocs,
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
