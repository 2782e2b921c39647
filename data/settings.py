"""What may be set about data: plain dataclasses, one per shape of source, importable without torch in milliseconds.

They are the schemas of `configs/data/*.yaml`; `SCHEMAS` names them for registration. `data.load(settings)` takes one.
A field's metadata has its meaning with its unit ("help"), and where it has them its range, as (low, high) or as an
inequality, and its choices; --help prints them, and configurations are checked by them.
"""

from dataclasses import dataclass, field

INT32_MAX = 2**31 - 1  # largest whole number of a setting
COUNT = (1, INT32_MAX)


@dataclass(kw_only=True)
class DataSettings:
    """What every set has. `root` and `cache` say where, never what: they are in no hash."""

    name: str = field(metadata={"help": "a key of data.SETS"})
    root: str | None = field(
        default=None, metadata={"help": "folder of downloaded data sets; null: the variable LAYERNORM_DATA"}
    )
    cache: str | None = field(
        default=None,
        metadata={"help": "folder of prepared arrays; null: LAYERNORM_CACHE, else the user's cache folder"},
    )


@dataclass(kw_only=True)
class TextData(DataSettings):
    """A symbol sequence to predict one symbol ahead. As it stands: sets with published splits (PTB, WikiText-2)."""

    kind: str = "text"
    unit: str = field(metadata={"help": "what one symbol is: char or word"})
    seq_len: int = field(
        default=64,
        metadata={
            "help": "symbols per training window, the reach of backpropagation through time",
            "range": COUNT,
        },
    )
    batch_size: int = field(default=32, metadata={"help": "windows per training step", "range": COUNT})
    eval_batch_size: int = field(default=256, metadata={"help": "parallel streams in evaluation", "range": COUNT})
    val_symbols: int | None = field(
        default=None,
        metadata={
            "help": "length of the validation text, from its start, where it is evaluated often; null: all of it",
            "range": COUNT,
        },
    )


@dataclass(kw_only=True)
class PythonDocs(TextData):
    """The Python language reference inside the standard library; split by blocks, so every split sees every region."""

    name: str = "python_docs"
    unit: str = "char"
    blocks: int = field(default=20, metadata={"help": "equal consecutive pieces of the text", "range": COUNT})
    val_blocks: list[int] = field(
        default_factory=lambda: [4, 14], metadata={"help": "validation text, numbered from 0"}
    )
    test_blocks: list[int] = field(
        default_factory=lambda: [9, 19], metadata={"help": "test text; all others are training text"}
    )


@dataclass(kw_only=True)
class FractionText(TextData):
    """A text without published splits: train first, then val, then test, each one contiguous piece.

    tinyshakespeare has no official split; the custom is 90/10 without a test part, so its numbers elsewhere are on val.
    """

    val: float = field(default=0.05, metadata={"help": "fraction of the symbols in the validation split"})
    test: float = field(default=0.05, metadata={"help": "fraction of the symbols in the test split"})


@dataclass(kw_only=True)
class TextFile(FractionText):
    """Any UTF-8 file."""

    name: str = "text_file"
    path: str = field(metadata={"help": "the file, relative to the working directory"})


@dataclass(kw_only=True)
class HubText(FractionText):
    """Any Hugging Face text set; `val` and `test` are used only where the set has no such split of its own."""

    name: str = "hf_text"
    path: str = field(
        metadata={"help": "name on the hub, or a local file or folder (parquet and what else `datasets` reads)"}
    )
    config: str | None = field(default=None, metadata={"help": "the data set's configuration, e.g. wikitext-2-v1"})
    column: str = field(default="text", metadata={"help": "the column that holds the text, one line (or more) a row"})
    revision: str | None = field(
        default=None, metadata={"help": "commit, tag or branch on the hub; pin it where numbers are to be compared"}
    )


@dataclass(kw_only=True)
class BinarizedMNIST(TextData):
    """Rows of 784 binary pixels behind a start symbol: each row is one image, and no window crosses rows."""

    name: str = "binarized_mnist"
    unit: str = "pixel"
    seq_len: int = field(default=784, metadata={"help": "predictions per row: a whole image"})


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
class BinaryData(DataSettings):
    """Images of zeros and ones to model, without labels. As it stands: sets with published splits (binarised MNIST)."""

    kind: str = "binary"
    batch_size: int = field(default=128, metadata={"help": "images per training step", "range": COUNT})
    eval_batch_size: int = field(default=500, metadata={"help": "images at a time in evaluation", "range": COUNT})
    train_examples: int | None = field(
        default=None, metadata={"help": "so many training images, the first ones; null: all of them", "range": COUNT}
    )
    val_examples: int | None = field(
        default=None,
        metadata={
            "help": "so many validation images, the first ones, where they are evaluated often; null: all",
            "range": COUNT,
        },
    )


@dataclass(kw_only=True)
class BinaryDigits(BinaryData):
    """scikit-learn's digits, a pixel 1 from half the intensity on; the splits are drawn."""

    name: str = "binary_digits"
    val: int = field(default=300, metadata={"help": "validation images; 1797 in all", "range": COUNT})
    test: int = field(default=300, metadata={"help": "test images", "range": COUNT})
    split_seed: int = field(default=0, metadata={"help": "seed of the split", "range": (0, INT32_MAX)})


SCHEMAS: dict[str, type] = {
    "text": TextData,
    "python_docs": PythonDocs,
    "fraction_text": FractionText,
    "text_file": TextFile,
    "hub_text": HubText,
    "binarized_mnist": BinarizedMNIST,
    "images": ImageData,
    "split_images": SplitImages,
    "noisy_digits": NoisyDigits,
    "binary": BinaryData,
    "binary_digits": BinaryDigits,
}
