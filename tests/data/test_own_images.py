"""Images of the user's: folders of classes, and arrays in an .npz file."""

import numpy as np
import pytest
import torch
from PIL import Image

import data
from data import torchvision_compat
from data.settings import ImageFile, ImageFolder
from experiments.runs.folder import RunFolder
from experiments.runs.identity import run_id
from tests.helpers.configs import composed, trained
from tests.helpers.datasets import SPLITS, pixels, refusal


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "mine"


def photo(path, seed, size=(6, 5), mode="RGB"):
    """Random pixels in a file; size: width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = (3,) if mode == "RGB" else ()
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    Image.fromarray(values).convert(mode).save(path)


def album(root, classes=("cat", "dog"), images=20, **options):
    for index, name in enumerate(classes):
        for number in range(images):
            photo(root / name / f"{number:02}.png", 100 * index + number, **options)
    return root


def as_set(loaded, *splits):
    """Each image, as bytes, with its class."""
    return {
        (image.numpy().tobytes(), int(label))
        for split in splits
        for image, label in zip(pixels(loaded, split), loaded.labels[split], strict=True)
    }


def test_a_folder_of_classes_is_what_torchvision_reads_and_split_class_by_class(tmp_path):
    root = album(tmp_path / "zoo", ("dog", "cat", "eel"))
    photo(root / "cat" / "more" / "deep.JPG", 7)
    (root / "cat" / "notes.txt").write_text("no image")
    loaded = data.load(ImageFolder(path=str(root), val=0.2, test=0.1))
    assert loaded.num_classes == 3 and loaded.manifest["class_names"] == ["cat", "dog", "eel"]
    assert {split: torch.bincount(loaded.labels[split]).tolist() for split in SPLITS} == {
        **{"train": [15, 14, 14], "val": [4, 4, 4], "test": [2, 2, 2]}
    }
    theirs = torchvision_compat.datasets().ImageFolder(str(root))
    images = {(np.asarray(image).transpose(2, 0, 1).tobytes(), label) for image, label in theirs}
    assert as_set(loaded, *SPLITS) == images and len(images) == 61

    (root / ".hidden").mkdir()
    other, fewer = (
        data.load(ImageFolder(path=str(root), val=0.2, test=0.1, **options))
        for options in ({"split_seed": 1}, {"train_examples": 9})
    )
    assert as_set(other, "test") != as_set(loaded, "test")
    assert as_set(fewer, "val", "test") == as_set(loaded, "val", "test") and len(fewer.labels["train"]) == 9
    assert as_set(fewer, "train") < as_set(loaded, "train")


def test_given_splits_stay_and_a_missing_one_is_drawn_from_train(mine):
    for index, split in enumerate(("train", "test")):
        for number in range(10):
            for label in ("a", "b"):
                photo(mine / split / label / f"{number}.png", 1000 * index + 2 * number + (label == "b"))
    loaded = data.load(ImageFolder(path=str(mine), val=0.3))
    assert {split: len(loaded.labels[split]) for split in SPLITS} == {"train": 14, "val": 6, "test": 20}
    test = torchvision_compat.datasets().ImageFolder(str(mine / "test"))
    assert as_set(loaded, "test") == {(np.asarray(i).transpose(2, 0, 1).tobytes(), label) for i, label in test}


def test_grey_images_have_one_channel_unless_one_is_coloured(mine):
    album(mine, images=5, mode="L")
    grey = data.load(ImageFolder(path=str(mine), val=0.2, test=0.2))
    assert grey.images["train"].shape == (6, 1, 5, 6)
    photo(mine / "dog" / "coloured.png", 1)
    mixed = data.load(ImageFolder(path=str(mine), val=0.2, test=0.2))
    assert mixed.images["train"].shape[1:] == (3, 5, 6)


def test_sizes_that_differ_are_scaled_and_cut_where_a_size_is_given(mine):
    album(mine, images=5)
    photo(mine / "dog" / "wide.png", 1, size=(40, 20))
    message = refusal(ImageFolder(path=str(mine)))
    assert "has 5 x 6 pixels and" in message and "wide.png 20 x 40" in message and "data.size=5" in message
    loaded = data.load(ImageFolder(path=str(mine), size=4, val=0.2, test=0.2))
    assert loaded.manifest["shape"] == [3, 4, 4]
    with Image.open(mine / "dog" / "wide.png") as wide:
        middle = wide.resize((8, 4), Image.Resampling.BILINEAR).crop((2, 0, 6, 4))
    assert (np.asarray(middle).transpose(2, 0, 1).tobytes(), 1) in as_set(loaded, *SPLITS)


def test_a_folder_is_known_by_its_content_and_size_wherever_it_is(tmp_path):
    first = ImageFolder(path=str(album(tmp_path / "here")))
    assert data.fingerprint(first) == data.fingerprint(ImageFolder(path=str(album(tmp_path / "there"))))
    before = data.fingerprint(first)
    assert before != data.fingerprint(ImageFolder(path=str(tmp_path / "here"), size=4))
    (tmp_path / "here" / "dog" / "00.png").rename(tmp_path / "here" / "cat" / "another.png")
    assert data.fingerprint(first) != before


FOLDERS = {
    "photos": (lambda root: None, "is no folder"),
    "file": (lambda root: root.write_text(""), "is no folder"),
    "loose": (lambda root: photo(root / "1.png", 0), "holds no folder for each class"),
    "empty": (lambda root: (album(root) / "gnu").mkdir(), "gnu holds no image (.jpg"),
    "one class": (lambda root: album(root, ("cat",)), "all images are of class cat"),
    "few": (lambda root: album(root, images=2), "class cat has too few images for train, val and test"),
    "no train": (lambda root: album(root, ("test", "cat")), "name the splits train, val and test"),
    "validation": (lambda root: album(root, ("train", "validation")), "name the splits train, val and test"),
    "no classes": (lambda root: photo(root / "train" / "1.png", 0), "train holds no image"),
    "unknown class": (
        lambda root: album(album(root / "train").parent / "val", ("cow",)),
        "class cow is in val and not in train",
    ),
    "corrupt": (lambda root: (album(root) / "cat" / "x.png").write_bytes(b"png"), "x.png cannot be read as an image"),
    "deep colour": (lambda root: photo(album(root) / "cat" / "x.png", 0, mode="I;16"), "more than 8 bits a channel"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_no_set_of_images_is_refused(name, tmp_path):
    make, reason = FOLDERS[name]
    make(tmp_path / "mine")
    message = refusal(ImageFolder(path=str(tmp_path / "mine")))
    assert message.startswith("image_folder: ") and reason in message


def test_a_cut_image_is_refused(mine):
    photo(album(mine) / "cat" / "x.png", 0, size=(60, 60))
    (mine / "cat" / "x.png").write_bytes((mine / "cat" / "x.png").read_bytes()[:2000])
    assert "x.png cannot be read as an image (" in refusal(ImageFolder(path=str(mine)))


def arrays(count=40, shape=(5, 4), seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % 4


def stored(path, **named):
    np.savez(path, **named)
    return ImageFile(path=str(path))


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (3, 5, 6), (5, 6, 3), (6, 5, 4)])
def test_arrays_in_any_layout_with_labels_of_any_kind(shape, tmp_path):
    x, y = arrays(shape=shape)
    loaded = data.load(stored(tmp_path / "mine.npz", x=x, y=np.array(["d", "a", "c", "b"])[y][:, None]))
    channels_last = len(shape) == 3 and shape[2] <= 4 and shape[0] > 4
    expected = x.transpose(0, 3, 1, 2) if channels_last else x.reshape(40, -1, *shape[-2:])
    assert loaded.images["train"].shape[1:] == expected.shape[1:]
    assert loaded.manifest["class_names"] == ["a", "b", "c", "d"]
    order = np.array([3, 0, 2, 1])
    assert as_set(loaded, *SPLITS) == {
        (image.tobytes(), order[label]) for image, label in zip(expected, y, strict=True)
    }


def test_arrays_with_splits_as_keras_names_them(tmp_path):
    (x, y), (x_test, y_test) = arrays(), arrays(count=8, seed=1)
    settings = stored(
        tmp_path / "mine.npz", x_train=x / 255.0, y_train=10 * y, x_test=x_test / 255.0, y_test=10 * y_test
    )
    loaded = data.load(settings)
    assert {split: len(loaded.labels[split]) for split in SPLITS} == {"train": 36, "val": 4, "test": 8}
    assert loaded.labels["test"].tolist() == y_test.tolist() and loaded.manifest["class_names"] == [
        "0",
        "10",
        "20",
        "30",
    ]
    assert all(abs(value) < 1 for value in loaded.manifest["mean"]), "fractions are not cut to whole numbers"


X, Y = arrays()
FILES = {
    "names": ({"images": X, "labels": Y}, "holds images, labels; name its arrays x and y"),
    "no labels": ({"x": X}, "name its arrays x and y"),
    "lengths": ({"x": X, "y": Y[1:]}, "x has 40 images and y 39 labels"),
    "flat": ({"x": X.reshape(40, -1), "y": Y}, "x is of shape (40, 20)"),
    "nan": ({"x": np.full(X.shape, np.nan), "y": Y}, "not finite"),
    "one hot": ({"x": X, "y": np.eye(4)[Y]}, "y is of shape (40, 4)"),
    "fractions": ({"x": X, "y": Y / 2}, "labels are whole numbers or text"),
    "one class": ({"x": X, "y": 0 * Y}, "all images are of class 0"),
    "objects": ({"x": X, "y": np.array([None] * 40)}, "is no .npz file of numbers and texts"),
    "unknown": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
        "y_test has the label 4, which y_train has not",
    ),
    "shapes": ({"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y}, "bring all to one shape"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_set_of_images_is_refused(name, tmp_path):
    named, reason = FILES[name]
    message = refusal(stored(tmp_path / "mine.npz", **named))
    assert message.startswith("image_file: ") and reason in message


def test_a_file_that_is_no_archive_or_not_there_is_refused(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"PK\3\4 cut")
    assert "is no .npz file" in refusal(ImageFile(path=str(tmp_path / "mine.npz")))
    np.save(tmp_path / "mine.npy", X)
    assert "is no .npz file" in refusal(ImageFile(path=str(tmp_path / "mine.npy")))
    assert "mend the path" in refusal(ImageFile(path=str(tmp_path / "other.npz")))
    assert "name an .npz file" in refusal(ImageFile(path=str(tmp_path)))


def test_a_network_learns_images_of_ones_own(tmp_path):
    """Three classes that differ in brightness, from a folder; the head has as many outputs."""
    for index, name in enumerate(("dark", "grey", "light")):
        for number in range(20):
            (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng([index, number]).integers(100 * index, 100 * index + 50, (8, 8), np.uint8)
            Image.fromarray(values).save(tmp_path / "mine" / name / f"{number}.png")
    own = ["model=mlp", "model.hidden_sizes=[8]", "norm=none", "data=image_folder", f"data.path={tmp_path / 'mine'}"]
    size = ["data.batch_size=16", "trainer.steps=100", "trainer.evaluations=1", "optim.lr=0.02", "wandb.mode=disabled"]
    outcome = trained(*own, *size, f"runs_dir={tmp_path / 'runs'}")
    folder = RunFolder(tmp_path / "runs", outcome["run_id"])
    assert outcome["status"] == "done" and folder.summary["test/error"] == 0
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert run_id(composed(*own[:-1], f"data.path={tmp_path / 'moved'}", *size)) == outcome["run_id"]
