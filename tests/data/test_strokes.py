"""Pen trajectories: CROHME as published, drawn lines, scales, splits and refusals."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli, multivariate_normal

import data
from data import font
from data.settings import Crohme, DrawnLines
from data.strokes import LONGEST_STEP, latex_symbols
from tests.helpers.datasets import SPLITS, needs_files, refusal

SMALL = {"train": 30, "val": 4, "test": 5}


def drawn(**changed) -> data.Strokes:
    return data.load(DrawnLines(**{**SMALL, **changed}))


def spelled(strokes: data.Strokes, split: str) -> list[str]:
    return ["".join(strokes.vocabulary[symbol] for symbol in text) for text in strokes.texts[split]]


# --- CROHME -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def published() -> tuple[dict, list[list[str]]]:
    """The published arrays, and the rows of the index."""
    folder = Path(os.environ["LAYERNORM_DATA"], "crohme")
    with gzip.open(folder / "crohme_index.tsv.gz", "rt", encoding="utf-8") as lines:
        return dict(np.load(folder / "crohme_stroke3.flat.npz")), [line.rstrip("\n").split("\t") for line in lines][1:]


@needs_files
def test_crohme_has_the_published_counts_and_its_validation_writers_are_in_no_other_split(published):
    """8836 training files less the two that cannot be read; 671, 986 and 1147 test files."""
    strokes, rows = published
    loaded = data.load(Crohme())
    counts = loaded.manifest["counts"]
    assert counts["train"] + counts["val"] == 8834 and counts["test"] == 1147
    for test, count in (("test2013", 671), ("test2014", 986)):
        few = Crohme(test=test, collections=["extension"], val_writers=3)
        assert len(data.load(few).steps["test"]) == count
    assert [len(steps) for steps in loaded.steps["test"]] == np.diff(strokes["test2016_offsets"]).tolist()

    # Which row of the index a trajectory is of: its text, its length, and where the pen leaves the paper.
    training = [row for row in rows if row[0] == "train"]
    pens = np.split(strokes["train_strokes"][:, 2], strokes["train_offsets"][1:-1])
    row_of = {(*latex_symbols(row[8]), pen.tobytes()): row for row, pen in zip(training, pens, strict=True)}
    writers = {}
    for split in ("train", "val"):
        found = []
        for steps, text in zip(loaded.steps[split], loaded.texts[split], strict=True):
            key = (*(loaded.vocabulary[symbol] for symbol in text), steps[:, 2].numpy().astype(np.int16).tobytes())
            found.append(row_of.get(key))
        assert sum(row is None for row in found) < 0.01 * len(found), "but for symbols that train lacks"
        writers[split] = {(row[3], row[4]) for row in found if row}
    assert len(writers["val"]) == 30 and not writers["val"] & writers["train"]
    assert not {name for _, name in writers["val"]} & {"", "Unknown"}


@needs_files
def test_steps_are_the_published_ones_but_for_the_cut_the_noise_and_the_scale(published):
    strokes, _ = published
    loaded = data.load(Crohme())
    whole = torch.cat(loaded.steps["test"])
    raw = torch.tensor(strokes["test2016_strokes"]).float()
    back = whole[:, :2] * torch.tensor(loaded.manifest["sd"]).float()
    off = back - raw[:, :2].clamp(-LONGEST_STEP, LONGEST_STEP)
    assert off.abs().max() <= 0.501 and off[:, 0].std().item() == pytest.approx(12**-0.5, rel=0.02)
    assert torch.equal(whole[:, 2], raw[:, 2]) and all(not steps[0, :2].any() for steps in loaded.steps["test"])
    within = torch.cat([steps[1:, :2][steps[:-1, 2] == 0] for steps in loaded.steps["train"]])
    torch.testing.assert_close(within.double().std(0), torch.ones(2).double(), atol=1e-3, rtol=0)


@needs_files
def test_crohme_can_be_had_in_part():
    near = ["MfrDB", "expressmatch"]
    part = data.load(Crohme(collections=near, train_examples=50, val_examples=7, val_writers=20))
    assert [len(part.steps[split]) for split in SPLITS] == [50, 7, 1147]
    whole = data.load(Crohme(collections=near, val_writers=20))
    assert len(whole.steps["train"]) + len(whole.steps["val"]) == 1665 + 620
    assert [len(steps) for steps in part.steps["train"]] == [len(steps) for steps in whole.steps["train"][:50]]
    assert "names 27 writers, some to be trained on" in refusal(Crohme(collections=["expressmatch"], val_writers=27))
    assert "data.collections=[MathBrush] names 0 writers" in refusal(Crohme(collections=["MathBrush"]))
    message = refusal(Crohme(collections=near, val_writers=20, train_examples=9999))
    assert "train_examples=9999" in message and f"nearest: {len(whole.steps['train'])}" in message


def test_formulas_are_commands_escaped_signs_and_characters():
    assert " ".join(latex_symbols(r"$\frac{a_1}{\mbox b} \{ 2$")) == r"\frac { a _ 1 } { \mbox b } \{ 2"


# --- drawn lines ------------------------------------------------------------------------------------------------------


def test_drawn_lines_need_no_file_and_are_seeded(monkeypatch):
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    loaded, other = drawn(), drawn(draw_seed=1)
    assert {split: len(loaded.steps[split]) for split in SPLITS} == SMALL
    lines = [line for split in SPLITS for line in spelled(loaded, split)]
    assert len(set(lines)) == len(lines) == sum(SMALL.values())
    assert all(7 <= len(text) <= 12 for split in SPLITS for text in loaded.texts[split])
    assert all(font.can_write(line) for line in spelled(loaded, "train"))
    assert spelled(other, "train") != spelled(loaded, "train")
    within = torch.cat([steps[1:, :2][steps[:-1, 2] == 0] for steps in loaded.steps["train"]])
    torch.testing.assert_close(within.double().std(0), torch.ones(2).double(), atol=1e-3, rtol=0)
    assert all(not steps[0, :2].any() and steps[-1, 2] == 1 for steps in loaded.steps["val"])


def test_a_line_has_the_strokes_of_its_letters_from_left_to_right():
    rng = np.random.default_rng(0)
    steady = font.Hand(slant=0, size=2.0, climb=0, spacing=1.0, unsteadiness=0, tremor=0)
    for text, strokes in (("l", 1), ("it", 4), ("a b", 2)):
        line = font.write(text, steady, rng)
        assert line.shape[1] == 3 and line[:, 2].sum() == strokes
    x, y = font.write("l", steady, rng)[:, :2].cumsum(0).T
    assert y[-1] - y[0] == pytest.approx(2 * 8), "an ascender from d down to 5, twice as large, downwards"
    corners = [[0, 13], [0, 5], [1, 4], [2, 5]]
    path = 2 * np.array([[a, 13 - b] for a, b in corners])
    nearest = [np.hypot(x - a, y - b).min() for a, b in path]
    assert max(nearest) < 1.0, "the curve leads through the glyph's points"
    slanted = font.write("l", steady._replace(slant=0.5), rng)[:, :2].cumsum(0)
    assert slanted[:, 0].min() < x.min() - 1 and np.allclose(slanted[:, 1], y, atol=1e-4)
    steps = np.hypot(*font.write("o", steady, rng)[1:, :2].T)
    assert steps.max() < 1.1 * 2 and steps.min() > 0.8 * 2, "at even distances"


def test_the_baseline_is_one_gaussian_and_one_probability():
    loaded = drawn()
    known, points = (
        torch.cat([steps[1:] for steps in loaded.steps[split]]).double().numpy() for split in ("train", "val")
    )
    step = multivariate_normal(known[:, :2].mean(0), np.cov(known[:, :2].T))
    pen = bernoulli(known[:, 2].mean())
    expected = -step.logpdf(points[:, :2]).mean() - pen.logpmf(points[:, 2].astype(int)).mean()
    assert loaded.manifest["baseline"]["val"] == pytest.approx(expected)


@pytest.mark.parametrize("character", font.GLYPHS)
def test_every_glyph_is_written(character):
    line = font.write(character, font.Hand.drawn(np.random.default_rng(0)), np.random.default_rng(1))
    assert np.isfinite(line).all() and len(line) >= 2 and line[:, 2].sum() == len(font.GLYPHS[character])


def test_more_lines_than_there_are_is_refused():
    assert "ask for 900009 lines" in refusal(DrawnLines(train=900_000, val=4, test=5))
