"""Images to classify: readers of each source, and how examples become standardised splits.

The cache stores images as published; splits, subsets and noise are drawn in memory when a set is loaded, so that
another split costs no disk and needs no raw file.
"""

import importlib.util
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import files, own_images, torchvision_compat
from .files import DataError, Source
from .settings import DataSettings, ImageData, ImageFile, ImageFolder, NoisyDigits, SplitImages
from .types import Images

NUM_CLASSES = 10  # of every published set

Arrays = dict[str, np.ndarray]
Splits = dict[str, tuple[np.ndarray, np.ndarray]]  # "train", "val", "test" -> images (N, C, H, W), labels (N,)


def assemble(settings: ImageData, arrays: Arrays, manifest: dict) -> Images:
    import torch

    splits = SPLITS[type(settings)](settings, arrays)
    splits = {name: (_pooled(settings, raw), labels) for name, (raw, labels) in splits.items()}
    train, _ = splits["train"]
    channels = range(train.shape[1])
    mean = [float(train[:, channel].mean(dtype=np.float64)) for channel in channels]
    sd = [float(train[:, channel].std(dtype=np.float64)) for channel in channels]
    if not all(sd):
        raise DataError(
            f"{settings.name}: all pixels of a channel are the same; there is nothing to tell images apart by"
        )
    names = {"class_names": json.loads(arrays["classes"].tobytes())} if "classes" in arrays else {}
    num_classes = len(names["class_names"]) if names else NUM_CLASSES
    if (most := max(int(labels.max(initial=0)) for _, labels in splits.values())) >= num_classes:
        raise DataError(f"{settings.name}: a label is {most}, and the classes are 0 to {num_classes - 1}")

    def standardised(raw: np.ndarray) -> torch.Tensor:
        images = torch.from_numpy(raw).float()
        return images.sub_(torch.tensor(mean).view(-1, 1, 1)).div_(torch.tensor(sd).view(-1, 1, 1))

    counts = {name: len(labels) for name, (_, labels) in splits.items()}
    of_input = {"shape": list(train.shape[1:]), "classes": num_classes, **names}
    return Images(
        images={name: standardised(raw) for name, (raw, _) in splits.items()},
        labels={name: torch.from_numpy(labels.astype(np.int64)) for name, (_, labels) in splits.items()},
        num_classes=num_classes,
        manifest=manifest | {"counts": counts, "mean": mean, "sd": sd} | of_input,
    )


def _pooled(settings: ImageData, raw: np.ndarray) -> np.ndarray:
    """(N, C, H, W) -> (N, C, H/pool, W/pool): the mean over each square of pool x pool pixels."""
    count, channels, height, width = raw.shape
    pool, common = settings.pool, math.gcd(height, width)
    if pool < 1 or common % pool:
        allowed = [size for size in range(1, common + 1) if common % size == 0]
        nearest = min(allowed, key=lambda size: abs(size - pool))
        raise DataError(
            f"{settings.name}: data.pool={pool} does not divide images of {height} x {width} pixels; "
            f"allowed: {', '.join(map(str, allowed))}; nearest: {nearest}"
        )
    if pool == 1:
        return raw
    squares = raw.reshape(count, channels, height // pool, pool, width // pool, pool)
    return squares.mean((3, 5), dtype=np.float32)


# -- Splits ------------------------------------------------------------------------------------------------------------


def published_split(settings: ImageData, arrays: Arrays) -> Splits:
    """Validation examples are drawn from the published training split; the test split is the published one."""
    pool = arrays["images"], arrays["labels"]
    chosen = _partition(settings, len(arrays["labels"]))
    return {
        "train": _take(pool, chosen["train"]),
        "val": _take(pool, chosen["val"]),
        "test": (arrays["test_images"], arrays["test_labels"]),
    }


def drawn_split(settings: SplitImages, arrays: Arrays) -> Splits:
    """All three splits are drawn from one pool."""
    if settings.test < 1:
        raise DataError(f"{settings.name}: data.test={settings.test} leaves nothing to test on; give 1 or more")
    pool = arrays["images"], arrays["labels"]
    chosen = _partition(settings, len(arrays["labels"]), settings.test)
    return {name: _take(pool, indices) for name, indices in chosen.items()}


def _take(pool: tuple[np.ndarray, np.ndarray], indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, labels = pool
    return images[indices], labels[indices]


def _partition(settings: ImageData, total: int, test: int = 0) -> dict[str, np.ndarray]:
    """Disjoint seeded indices; a smaller training subset is a part of a larger one, and val and test do not move."""
    left = total - settings.val - test
    wanted = left if settings.train_examples is None else settings.train_examples
    if settings.val < 1 or test < 0 or not 1 <= wanted <= left:
        raise DataError(
            f"{settings.name}: val={settings.val}, test={test} and train_examples={settings.train_examples} "
            f"do not fit into {total} examples; leave at least one for each"
        )
    order = np.random.default_rng(settings.split_seed).permutation(total)
    drawn_test, drawn_val, train = np.split(order, [test, test + settings.val])
    return {"train": train[:wanted], "val": drawn_val, "test": drawn_test}


def noisy_split(settings: NoisyDigits, arrays: Arrays) -> Splits:
    """The digits are split first and made noisy after, so that no digit is in two splits in two disguises."""
    if not 0 <= settings.max_shift <= (settings.canvas - 8) // 2:
        raise DataError(
            f"{settings.name}: an 8 x 8 digit moved by max_shift={settings.max_shift} "
            f"does not stay on a canvas of {settings.canvas}; give a larger data.canvas or a smaller shift"
        )
    if settings.copies < 1 or settings.eval_copies < 1:
        raise DataError(
            f"{settings.name}: copies={settings.copies}, eval_copies={settings.eval_copies}: at least 1 each"
        )
    if settings.contrast_low > settings.contrast_high:
        raise DataError(
            f"{settings.name}: data.contrast_low={settings.contrast_low} is above "
            f"data.contrast_high={settings.contrast_high}; exchange them"
        )
    # A stream for each split: the test images stay the same whatever is set for training.
    streams = dict(zip(("train", "val", "test"), np.random.default_rng(settings.noise_seed).spawn(3), strict=True))
    copies = {"train": settings.copies, "val": settings.eval_copies, "test": settings.eval_copies}
    return {
        name: (_noisy(settings, images.repeat(copies[name], axis=0), streams[name]), labels.repeat(copies[name]))
        for name, (images, labels) in drawn_split(settings, arrays).items()
    }


def _noisy(settings: NoisyDigits, digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 1, 8, 8) in 0..16 -> (N, 1, canvas, canvas), intensity 0..1 before the noise."""
    count, side = len(digits), settings.canvas
    corner = (side - 8) // 2 + rng.integers(-settings.max_shift, settings.max_shift, (count, 2), endpoint=True)
    contrast = rng.uniform(settings.contrast_low, settings.contrast_high, count)
    canvas = rng.normal(0, settings.noise, (count, 1, side, side))
    for image, digit, scale, (top, left) in zip(canvas, digits / 16, contrast, corner, strict=True):
        image[:, top : top + 8, left : left + 8] += scale * digit
    return canvas.astype(np.float32)


SPLITS: dict[type, Callable[[Any, Arrays], Splits]] = {
    ImageData: published_split,
    SplitImages: drawn_split,
    NoisyDigits: noisy_split,
    ImageFolder: own_images.split,
    ImageFile: own_images.split,
}


# -- Readers: settings, verified sources -> what the cache stores ------------------------------------------------------


def digits(settings: DataSettings, sources: list[Source]) -> Arrays:
    """1797 images of 8 x 8, intensities 0..16."""
    from sklearn.datasets import load_digits

    pool = load_digits()
    return {"images": pool.images.astype(np.uint8)[:, None], "labels": pool.target.astype(np.uint8)}


def digits_sources(settings: DataSettings) -> list[Source]:
    # find_spec finds the package without importing it, which takes a second.
    spec = importlib.util.find_spec("sklearn")
    assert spec and spec.origin
    return [files.current(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "sklearn digits.csv.gz")]


def mnist(settings: ImageData, sources: list[Source]) -> Arrays:
    """60000 + 10000 images of 28 x 28."""
    with tempfile.TemporaryDirectory() as work:
        # torchvision reads unpacked files only. Given the packed ones in a folder it may write to, `download=True`
        # finds nothing to download: it unpacks them and touches no network.
        raw = Path(work, "MNIST", "raw")
        raw.mkdir(parents=True)
        for source in sources:
            (raw / source.path.name).symlink_to(source.path.absolute())
        train, test = (torchvision_compat.datasets().MNIST(work, train=train, download=True) for train in (True, False))
        return {
            "images": train.data.numpy()[:, None],
            "labels": train.targets.numpy().astype(np.uint8),
            "test_images": test.data.numpy()[:, None],
            "test_labels": test.targets.numpy().astype(np.uint8),
        }


def cifar10(settings: ImageData, sources: list[Source]) -> Arrays:
    """50000 + 10000 images of 3 x 32 x 32. They are Python pickles, which run code: only ever read when verified."""
    root = sources[0].path.parent.parent
    train, test = (torchvision_compat.datasets().CIFAR10(root, train=train, download=False) for train in (True, False))
    return {
        "images": np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        "labels": np.array(train.targets, np.uint8),
        "test_images": np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        "test_labels": np.array(test.targets, np.uint8),
    }
