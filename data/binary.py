"""Images of zeros and ones: readers of each source, and the splits that are handed over."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import files, images
from .files import DataError, Source
from .settings import BinaryData, BinaryDigits, DataSettings
from .types import Binary

Arrays = dict[str, np.ndarray]  # images (N, H, W) of 0 and 1


def assemble(settings: BinaryData, arrays: Arrays, manifest: dict) -> Binary:
    """Return the splits, their examples at most as many as the settings say."""
    import torch

    splits = SPLITS[type(settings)](settings, arrays)
    for split, wanted in (("train", settings.train_examples), ("val", settings.val_examples)):
        if wanted is not None and wanted > len(splits[split]):
            raise DataError(
                f"{settings.name}: data.{split}_examples={wanted}, and its {split} split has {len(splits[split])} "
                f"images; nearest: {len(splits[split])}"
            )
        splits[split] = splits[split][:wanted]
    counts = {split: len(pixels) for split, pixels in splits.items()}
    of_input = {"shape": [1, *splits["train"].shape[1:]], "classes": 2}
    return Binary(
        images={split: torch.from_numpy(pixels[:, None]).float() for split, pixels in splits.items()},
        manifest=manifest | {"counts": counts} | of_input,
    )


# -- Splits ------------------------------------------------------------------------------------------------------------


def published_split(settings: BinaryData, arrays: Arrays) -> Arrays:
    return dict(arrays)


def drawn_split(settings: BinaryDigits, arrays: Arrays) -> Arrays:
    """Draw the splits; a pixel is 1 from half the intensity on. Drawn at random, 8 x 8 pixels would be mostly noise."""
    total, val, test = len(arrays["images"]), settings.val, settings.test
    if val + test >= total:
        raise DataError(
            f"{settings.name}: val={val} and test={test} leave nothing of {total} images to train on; give less"
        )
    order = np.random.default_rng(settings.split_seed).permutation(total)
    drawn_test, drawn_val, train = np.split(order, [test, test + val])
    pixels = (arrays["images"] >= 8).astype(np.uint8)
    return {"train": pixels[train], "val": pixels[drawn_val], "test": pixels[drawn_test]}


SPLITS: dict[type, Callable[[Any, Arrays], Arrays]] = {BinaryData: published_split, BinaryDigits: drawn_split}


# -- Readers: settings, verified sources -> what the cache stores ------------------------------------------------------


def mnist(settings: DataSettings, sources: list[Source]) -> Arrays:
    """50000 + 10000 + 10000 images of 28 x 28, from lines of 784 digits and separators ("0 1 0 ...\\n")."""
    arrays = {}
    for split, source in zip(("train", "val", "test"), sources, strict=True):
        with files.unpacked(source.path) as stream:
            characters = np.frombuffer(stream.read(), np.uint8).reshape(-1, 2 * 784)
        arrays[split] = (characters[:, ::2] - ord("0")).reshape(-1, 28, 28)
    return arrays


def digits(settings: BinaryDigits, sources: list[Source]) -> Arrays:
    """1797 images of 8 x 8, intensities 0..16."""
    return {"images": images.digits(settings, sources)["images"][:, 0]}
