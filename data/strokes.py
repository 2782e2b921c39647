"""Pen trajectories: readers of each source, and the splits that are handed over.

A trajectory is made of points (dx, dy, pen up): the step from the last point, and whether the pen leaves the paper
after this one. y grows downwards, the first step is 0, 0. Steps are divided by their standard deviation along each axis
within the strokes of the training split; the moves between strokes, which are fifteen to thirty times as long and few,
would set a scale of their own.
"""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import font
from .files import DataError, Source
from .settings import Crohme, DataSettings, DrawnLines, StrokeData
from .text import UNK, language_reference
from .types import Strokes

Arrays = dict[str, np.ndarray]

NOISE_SEED = 0  # of the noise that makes whole numbers continuous
LONGEST_STEP = 500  # CROHME's units along an axis at which a step is cut off, as 3 % of the moves between strokes are
NAMELESS = ("", "Unknown")  # entries of the column of writers that name none


class Trajectories(NamedTuple):
    """Trajectories with their texts, before they are scaled."""

    steps: list[np.ndarray]  # (points, 3) float32
    texts: list[list[str]]  # symbols


def assemble(settings: StrokeData, arrays: Arrays, manifest: dict) -> Strokes:
    """Return the splits: steps scaled, symbols as indices. A symbol that train lacks is <unk>, index 0."""
    import torch

    splits = SPLITS[type(settings)](settings, arrays)
    sd = _within_strokes(splits["train"].steps).std(0)
    vocabulary = [UNK, *sorted({symbol for text in splits["train"].texts for symbol in text})]
    index_of = {symbol: index for index, symbol in enumerate(vocabulary)}
    scaled = {split: [steps / np.array([*sd, 1], np.float32) for steps in each.steps] for split, each in splits.items()}
    return Strokes(
        steps={split: [torch.from_numpy(steps) for steps in each] for split, each in scaled.items()},
        texts={
            split: [torch.tensor([index_of.get(symbol, 0) for symbol in text], dtype=torch.long) for text in each.texts]
            for split, each in splits.items()
        },
        vocabulary=vocabulary,
        manifest=manifest
        | {"counts": {split: len(each.steps) for split, each in splits.items()}}
        | {"shape": [3], "classes": len(vocabulary), "sd": sd.tolist(), "vocabulary": vocabulary}
        | {"baseline": {split: baseline(scaled["train"], each) for split, each in scaled.items()}},
    )


def _within_strokes(trajectories: list[np.ndarray]) -> np.ndarray:
    """Return the steps (rows, 2) that the pen draws."""
    return np.concatenate([steps[1:, :2][steps[:-1, 2] == 0] for steps in trajectories]).astype(np.float64)


def baseline(train: list[np.ndarray], trajectories: list[np.ndarray]) -> float:
    """Return -log likelihood in nats per point of a model without memory, of all points but the first.

    One Gaussian for all steps and one probability of lifting the pen, those of the training points.
    """
    known, points = (np.concatenate([steps[1:] for steps in each]).astype(np.float64) for each in (train, trajectories))
    mean, covariance, up = known[:, :2].mean(0), np.cov(known[:, :2].T), known[:, 2].mean()
    centred = points[:, :2] - mean
    quadratic = (centred @ np.linalg.inv(covariance) * centred).sum(1).mean()
    step = (quadratic + np.linalg.slogdet(covariance).logabsdet) / 2 + np.log(2 * np.pi)
    share = points[:, 2].mean()
    return float(step - share * np.log(up) - (1 - share) * np.log(1 - up))


# -- Splits ------------------------------------------------------------------------------------------------------------


def crohme_split(settings: Crohme, arrays: Arrays) -> dict[str, Trajectories]:
    """Hold out writers of the published training split; who is not named is trained on. Test is as published.

    Coordinates are whole numbers, of which a density could make as much as it likes: uniform noise of one unit on each
    step, drawn once, makes them continuous, and the density a lower bound of the numbers' probability.
    """
    index = json.loads(arrays["index"].tobytes())
    train = [row for row in index["train"] if row["collection"] in settings.collections]
    writers = sorted({writer for row in train if (writer := _writer(row))})
    if settings.val_writers >= len(writers):
        raise DataError(
            f"{settings.name}: data.val_writers={settings.val_writers}, and data.collections="
            f"[{','.join(settings.collections)}] names {len(writers)} writers, some to be trained on; give less"
        )
    rng = np.random.default_rng(settings.split_seed)
    held_out = {writers[i] for i in rng.permutation(len(writers))[: settings.val_writers]}
    val = [row for row in train if _writer(row) in held_out]
    train = [row for row in train if _writer(row) not in held_out]
    chosen = {}
    for split, rows in (("train", train), ("val", val)):
        chosen[split] = [rows[i] for i in rng.permutation(len(rows))]
    for split, wanted in (("train", settings.train_examples), ("val", settings.val_examples)):
        if wanted is not None and wanted > len(chosen[split]):
            raise DataError(
                f"{settings.name}: data.{split}_examples={wanted}, and its {split} split has {len(chosen[split])} "
                f"trajectories; nearest: {len(chosen[split])}"
            )
        chosen[split] = chosen[split][:wanted]
    continuous = {split: _continuous(arrays, split) for split in ("train", settings.test)}
    return {
        "train": _chosen(continuous["train"], chosen["train"]),
        "val": _chosen(continuous["train"], chosen["val"]),
        "test": _chosen(continuous[settings.test], index[settings.test]),
    }


def _writer(row: dict) -> tuple[str, str] | None:
    return None if row["writer"] in NAMELESS else (row["collection"], row["writer"])


def _continuous(arrays: Arrays, split: str) -> list[np.ndarray]:
    strokes, offsets = arrays[f"{split}_strokes"], arrays[f"{split}_offsets"]
    steps = strokes.astype(np.float32)
    steps[:, :2] = steps[:, :2].clip(-LONGEST_STEP, LONGEST_STEP)
    noise = np.random.default_rng(NOISE_SEED).uniform(-0.5, 0.5, (len(steps), 2))
    noise[offsets[:-1]] = 0  # nothing predicts the first point
    steps[:, :2] += noise
    return np.split(steps, offsets[1:-1])


def _chosen(steps: list[np.ndarray], rows: list[dict]) -> Trajectories:
    return Trajectories([steps[row["number"]] for row in rows], [latex_symbols(row["latex"]) for row in rows])


def drawn_split(settings: DrawnLines, arrays: Arrays) -> dict[str, Trajectories]:
    splits = {}
    for split in ("train", "val", "test"):
        steps = np.split(arrays[f"{split}_strokes"], arrays[f"{split}_offsets"][1:-1])
        splits[split] = Trajectories(steps, [list(text) for text in json.loads(arrays[f"{split}_texts"].tobytes())])
    return splits


SPLITS: dict[type, Callable[[Any, Arrays], dict[str, Trajectories]]] = {Crohme: crohme_split, DrawnLines: drawn_split}


# -- Readers: settings, verified sources -> what the cache stores ------------------------------------------------------


def crohme(settings: DataSettings, sources: list[Source]) -> Arrays:
    """Strokes of the published splits, and collection, writer and formula of each trajectory."""
    strokes, index = sources
    with np.load(strokes.path, allow_pickle=False) as published:
        arrays = dict(published)
    rows: dict[str, list[dict]] = {}
    with gzip.open(index.path, "rt", encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            split, number, _, collection, writer, *_, latex = line.rstrip("\n").split("\t")
            row = {"number": int(number), "collection": collection, "writer": writer, "latex": latex}
            rows.setdefault(split, []).append(row)
    return arrays | {"index": _packed(rows)}


def latex_symbols(formula: str) -> list[str]:
    r"""Return commands as \frac, escaped signs as \{, and single characters; no spaces, no $."""
    return re.findall(r"\\[a-zA-Z]+|\\.|[^\s$]", formula)


def drawn_lines(settings: DrawnLines, sources: list[Source]) -> Arrays:
    """Draw lines of the language reference, each in a hand of its own."""
    lines = _lines(language_reference().lower(), settings.characters)
    sizes = {"train": settings.train, "val": settings.val, "test": settings.test}
    if sum(sizes.values()) > len(lines):
        raise DataError(
            f"{settings.name}: train, val and test ask for {sum(sizes.values())} lines, and there are {len(lines)} of "
            f"at most {settings.characters} characters; give less"
        )
    rng = np.random.default_rng(settings.draw_seed)
    order = iter(rng.permutation(len(lines)))
    arrays: Arrays = {}
    for split, size in sizes.items():
        texts = [lines[next(order)] for _ in range(size)]
        trajectories = [font.write(text, font.Hand.drawn(rng), rng) for text in texts]
        arrays[f"{split}_strokes"] = np.concatenate(trajectories)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, trajectories)])
        arrays[f"{split}_texts"] = _packed(texts)
    return arrays


def _lines(text: str, characters: int) -> list[str]:
    """Return different lines of whole words that the font can write, each more than half full."""
    lines: dict[str, None] = {}
    line = ""
    for word in text.split():
        if len(line) + len(word) + 1 > characters or not font.can_write(word):
            if len(line) > characters / 2:
                lines[line] = None
            line = ""
        if font.can_write(word) and len(word) <= characters:
            line = f"{line} {word}".strip()
    return list(lines)


def _packed(value: Any) -> np.ndarray:
    """JSON in bytes, since NumPy's own strings are padded to the longest."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)
