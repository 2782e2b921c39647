"""Images, to classify."""

from dataclasses import dataclass, field

from .base import COUNT, INT32_MAX, DataSettings


@dataclass(kw_only=True)
class ImageData(DataSettings):
    """Images to classify. As it stands: sets with a published test split (MNIST, CIFAR-10)."""

    kind: str = "images"
    batch_size: int = field(default=128, metadata={"help": "images per training step", "range": COUNT})
    eval_batch_size: int = field(default=1000, metadata={"help": "images at a time in evaluation", "range": COUNT})
    val: int = field(metadata={"help": "validation examples, taken from the published training split"})
    split_seed: int = field(
        default=0, metadata={"help": "seed of the split and of the subset", "range": (0, INT32_MAX)}
    )
    train_examples: int | None = field(
        default=None,
        metadata={"help": "a seeded subset of the training split; null: all of it"},
    )
    pool: int = field(
        default=1,
        metadata={
            "help": "images are averaged over squares of this many pixels a side: 28 x 28 becomes 14 x 14 with 2"
        },
    )


@dataclass(kw_only=True)
class SplitImages(ImageData):
    """A pool of images without published splits."""

    test: int = field(metadata={"help": "test examples"})


@dataclass(kw_only=True)
class NoisyDigits(SplitImages):
    """Digits made hard: moved, faded and noisy. `val`, `test`, `train_examples` count underlying digits, not copies."""

    name: str = "noisy_digits"
    val: int = field(default=397, metadata={"help": "validation digits; of 1797 in all this leaves 1000 to train on"})
    test: int = field(default=400, metadata={"help": "test digits"})
    canvas: int = field(
        default=12, metadata={"help": "side of the square image, pixels; the digit is 8 x 8", "range": (1, 2**20)}
    )
    copies: int = field(default=2, metadata={"help": "noisy versions of each training digit", "range": COUNT})
    eval_copies: int = field(default=5, metadata={"help": "noisy versions of each val and test digit", "range": COUNT})
    max_shift: int = field(
        default=2,
        metadata={"help": "the digit moves off the centre by up to this many pixels, each way and axis"},
    )
    contrast_low: float = field(
        default=0.5,
        metadata={"help": "lowest factor, drawn uniformly, that scales a digit's intensity (0..1)", "range": ">= 0"},
    )
    contrast_high: float = field(
        default=1.0, metadata={"help": "highest factor, drawn uniformly, that scales a digit's intensity (0..1)"}
    )
    noise: float = field(
        default=0.25,
        metadata={
            "help": "standard deviation of the Gaussian noise on every pixel, intensity scale 0..1",
            "range": ">= 0",
        },
    )
    noise_seed: int = field(default=0, metadata={"help": "seed of shift, contrast and noise", "range": (0, INT32_MAX)})


@dataclass(kw_only=True)
class OwnImages(ImageData):
    """Images of the user's. A split that they lack is drawn from the training images of each class, by `split_seed`."""

    val: float = field(  # type: ignore[assignment]  # a published set counts them
        default=0.1, metadata={"help": "fraction of each class's images in the validation split, where there is none"}
    )
    test: float = field(
        default=0.1, metadata={"help": "fraction of each class's images in the test split, where there is none"}
    )
    path: str = field(metadata={"help": "the file or folder, relative to the working directory"})


@dataclass(kw_only=True)
class ImageFolder(OwnImages):
    """A folder of images: [train|val|test/]<class>/<image>."""

    name: str = "image_folder"
    size: int | None = field(
        default=None,
        metadata={
            "help": "pixels a side: the shorter side is scaled to it, the longer one cut to its middle; null: as it is",
            "range": (1, 2**14),
        },
    )


@dataclass(kw_only=True)
class ImageFile(OwnImages):
    """Arrays of images and labels in one .npz file."""

    name: str = "image_file"
