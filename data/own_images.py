"""Images of the user's: a folder for each class, or arrays in one .npz file.

The readers return "images" and "labels" to train on, the same of each other split that is given ("val_images" ...), and
"classes", the packed names. `split` draws the splits that are not given.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .files import DataError, Source
from .settings import ImageFile, ImageFolder, OwnImages

Arrays = dict[str, np.ndarray]
Listing = dict[str, dict[str, list[Path]]]  # split -> class -> its images

SPLITS = ("train", "val", "test")
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's ImageFolder's

MOST_CHANNELS = 4  # of an array whose last axis may be that of the channels


def split(settings: OwnImages, arrays: Arrays) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits that are given; a missing one is drawn from the training images, of each class the same fraction.

    Neither a drawn val nor test depends on train_examples, and a smaller training subset is a part of a larger one.
    """
    if not (settings.val > 0 and settings.test > 0 and settings.val + settings.test < 1):
        raise DataError(
            f"{settings.name}: data.val={settings.val} and data.test={settings.test} are fractions: "
            "both above 0 and together below 1; give others"
        )
    images, labels = arrays["images"], arrays["labels"]
    splits = {
        name: (arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in SPLITS[1:] if f"{name}_labels" in arrays
    }
    left = np.random.default_rng(settings.split_seed).permutation(len(labels))
    for name, fraction in (("test", settings.test), ("val", settings.val)):
        if name not in splits:
            drawn = np.concatenate([_of_class(settings, arrays, left, label, fraction) for label in np.unique(labels)])
            splits[name] = images[drawn], labels[drawn]
            left = left[~np.isin(left, drawn)]
    wanted = len(left) if settings.train_examples is None else settings.train_examples
    if not 1 <= wanted <= len(left):
        raise DataError(f"{settings.name}: train_examples={wanted}, but there are 1 to {len(left)} to train on")
    return {"train": (images[left[:wanted]], labels[left[:wanted]]), **splits}


def _of_class(settings: OwnImages, arrays: Arrays, left: np.ndarray, label: int, fraction: float) -> np.ndarray:
    """Indices of a class that are drawn from those that are left: a fraction of all, at least one; some stay."""
    of_class = left[arrays["labels"][left] == label]
    count = max(1, round(fraction * int((arrays["labels"] == label).sum())))
    if count >= len(of_class):
        name = json.loads(arrays["classes"].tobytes())[label]
        raise DataError(
            f"{settings.name}: class {name} has too few images for train, val and test; add some, or leave it out"
        )
    return of_class[:count]


def _packed(images: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: list[str]) -> Arrays:
    """What the cache stores, of arrays by split."""
    arrays = {"classes": np.frombuffer(json.dumps(classes).encode(), np.uint8)}
    for name in images:
        prefix = "" if name == "train" else f"{name}_"
        arrays |= {f"{prefix}images": images[name], f"{prefix}labels": labels[name].astype(np.int64)}
    return arrays


def _check_classes(settings: OwnImages, classes: list[str]) -> None:
    if len(classes) < 2:
        raise DataError(f"{settings.name}: all images are of class {classes[0]}; there is nothing to tell apart")


# -- Folders -----------------------------------------------------------------------------------------------------------


def folder_sources(settings: ImageFolder) -> list[Source]:
    """The folder, known by the names and contents of its images, and the side to which they are brought."""
    root = files.home_expanded("data.path", settings.path)
    images = [path for of_split in _listing(settings, root).values() for found in of_split.values() for path in found]
    try:
        known = tuple((path, (status := path.stat()).st_size, status.st_mtime_ns) for path in images)
        sha256 = _digest(root, settings.size, known)
    except OSError as error:
        raise DataError(
            f"{settings.name}: {error.filename} cannot be read ({error.strerror}); mend or remove it"
        ) from None
    side = "" if settings.size is None else f", {settings.size} pixels a side"
    return [Source(f"{root.name} ({len(images)} images{side})", sha256, sum(size for _, size, _ in known), root)]


@functools.lru_cache(maxsize=4)  # each run of a sweep asks
def _digest(root: Path, size: int | None, images: tuple[tuple[Path, int, int], ...]) -> str:
    lines = [f"{path.relative_to(root)} {files.digest(path)[0]}" for path, _, _ in images]
    return hashlib.sha256("\n".join([f"size {size}", *lines]).encode()).hexdigest()


def _listing(settings: ImageFolder, root: Path) -> Listing:
    """The images of each class and split. Raises DataError where the folder is not laid out so."""
    if not os.path.isdir(root):
        raise DataError(
            f"{settings.name}: data.path={settings.path} is no folder (looked for {root.absolute()}); mend the path; "
            "arrays in an .npz file are data=image_file"
        )
    names = _folders(root)
    if not names:
        raise DataError(f"{settings.name}: {root} holds no folder for each class; put each class's images into one")
    if not {*SPLITS}.intersection(names):
        return {"train": _of_split(settings, root, names)}
    if "train" not in names or not {*SPLITS}.issuperset(names):
        raise DataError(
            f"{settings.name}: {root} holds {', '.join(names)}; name the splits train, val and test, of which val and "
            "test may be missing, or put folders of classes alone there"
        )
    listing = {name: _of_split(settings, root / name, _folders(root / name)) for name in SPLITS if name in names}
    for name, of_split in listing.items():
        if unknown := sorted(of_split.keys() - listing["train"].keys()):
            raise DataError(
                f"{settings.name}: class {unknown[0]} is in {name} and not in train; add images of it there"
            )
    return listing


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _of_split(settings: ImageFolder, path: Path, classes: list[str]) -> dict[str, list[Path]]:
    found = {name: sorted(_images(path / name)) for name in classes}
    empty = [path / name for name, images in found.items() if not images]
    if empty or not found:
        raise DataError(
            f"{settings.name}: {(empty or [path])[0]} holds no image ({' '.join(ENDINGS)}); add some, or remove it"
        )
    return found


def _images(path: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(path, followlinks=True):
        yield from (Path(folder, name) for name in names if name.lower().endswith(ENDINGS) and name[0] != ".")


def read_folder(settings: ImageFolder, sources: list[Source]) -> Arrays:
    """Images as (N, 1, H, W) where all are grey, else as (N, 3, H, W), 0 to 255."""
    listing = _listing(settings, sources[0].path)
    classes = sorted(listing["train"])
    _check_classes(settings, classes)
    read: dict[str, list[np.ndarray]] = {}
    labels: dict[str, np.ndarray] = {}
    first: tuple[Path, np.ndarray] | None = None
    for name, of_split in listing.items():
        pairs = [(path, classes.index(label)) for label, found in of_split.items() for path in found]
        labels[name], read[name] = np.array([label for _, label in pairs]), []
        for path, _ in pairs:
            image = _decoded(settings, path)
            first = first or (path, image)
            if image.shape[1:] != first[1].shape[1:]:
                (height, width), (high, wide) = first[1].shape[1:], image.shape[1:]
                raise DataError(
                    f"{settings.name}: {first[0]} has {height} x {width} pixels and {path} {high} x {wide}; give "
                    f"data.size={min(height, width, high, wide)} or another side to which all are scaled and cut"
                )
            read[name].append(image)
    channels = max(len(image) for images in read.values() for image in images)
    whole = {
        name: np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])
        for name, images in read.items()
    }
    return _packed(whole, labels, classes)


def _decoded(settings: ImageFolder, path: Path) -> np.ndarray:
    """An image as it is meant to be seen, (C, H, W), 0 to 255. Transparency is left out."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise DataError(
                    f"{settings.name}: {path} has more than 8 bits a channel (mode {opened.mode}); convert it to 8"
                )
            image = ImageOps.exif_transpose(opened).convert("L" if opened.mode in ("1", "L", "LA") else "RGB")
    except DataError:
        raise
    except Exception as error:  # each format's decoder raises errors of its own
        reason = " ".join(str(error).split())
        raise DataError(
            f"{settings.name}: {path} cannot be read as an image ({reason}); replace or remove it"
        ) from None
    if settings.size is not None:
        image = ImageOps.fit(image, (settings.size, settings.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


# -- Arrays ------------------------------------------------------------------------------------------------------------


def file_sources(settings: ImageFile) -> list[Source]:
    return [files.given(settings.name, settings.path, "an .npz file")]


def read_file(settings: ImageFile, sources: list[Source]) -> Arrays:
    """x (N, H, W), (N, C, H, W) or (N, H, W, C) and y (N,); or x_train, y_train and the same of val and test."""
    [source] = sources
    arrays = _loaded(settings, source.path)
    names = {name: ("x", "y") if "x" in arrays else (f"x_{name}", f"y_{name}") for name in SPLITS}
    given = {name: pair for name, pair in names.items() if pair[0] in arrays and (name == "train" or "x" not in arrays)}
    if "train" not in given or any(label not in arrays for _, label in given.values()):
        raise DataError(
            f"{settings.name}: {source.path} holds {', '.join(arrays) or 'nothing'}; name its arrays x and y, or "
            "x_train, y_train, and x_val, y_val, x_test, y_test where there are such splits"
        )
    images = {name: _pixels(settings, arrays[x], x) for name, (x, _) in given.items()}
    labels = {name: _labels(settings, arrays[y], y) for name, (_, y) in given.items()}
    for name, (x, y) in given.items():
        if len(images[name]) != len(labels[name]):
            raise DataError(f"{settings.name}: {x} has {len(images[name])} images and {y} {len(labels[name])} labels")
        if images[name].shape[1:] != images["train"].shape[1:]:
            shapes = f"{images[name].shape[1:]} and those of {given['train'][0]} {images['train'].shape[1:]}"
            raise DataError(f"{settings.name}: the images of {x} are {shapes}; bring all to one shape")
    classes = np.unique(labels["train"])
    _check_classes(settings, list(map(str, classes)))
    for name, (_, y) in given.items():
        if len(unknown := np.setdiff1d(labels[name], classes)):
            raise DataError(f"{settings.name}: {y} has the label {unknown[0]}, which {given['train'][1]} has not")
        labels[name] = np.searchsorted(classes, labels[name])
    return _packed(images, labels, list(map(str, classes)))


def _loaded(settings: ImageFile, path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # of a file that is none, or of one with pickled objects
        reason = " ".join(str(error).split())
        raise DataError(
            f"{settings.name}: {path} is no .npz file of numbers and texts ({reason}); write it with numpy.savez"
        ) from None


def _pixels(settings: ImageFile, array: np.ndarray, name: str) -> np.ndarray:
    """(N, C, H, W), whole numbers of 0 to 255 as uint8, others as float32."""
    if array.dtype.kind not in "buif" or array.ndim not in (3, 4) or not array.size:
        raise DataError(
            f"{settings.name}: {name} is of shape {array.shape} and type {array.dtype}; images are numbers (N, H, W), "
            "(N, C, H, W) or (N, H, W, C)"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{settings.name}: {name} has values that are not finite; mend or leave out these images")
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[3] <= MOST_CHANNELS < array.shape[1]:
        array = array.transpose(0, 3, 1, 2)
    small = array.dtype.kind != "f" and array.min() >= 0 and array.max() <= 255
    return np.ascontiguousarray(array, np.uint8 if small else np.float32)


def _labels(settings: ImageFile, array: np.ndarray, name: str) -> Any:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1 or flat.dtype.kind not in "buiU":
        raise DataError(
            f"{settings.name}: {name} is of shape {array.shape} and type {array.dtype}; labels are whole numbers or "
            "text, one for each image"
        )
    return flat
