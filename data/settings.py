"""What may be set about data: plain dataclasses, one per shape of source, importable without torch in milliseconds.

They are the schemas of `configs/data/*.yaml`; `SCHEMAS` names them for registration. `data.load(settings)` takes one.
The comment behind a field, or above it, is what --help prints as its meaning.
"""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class DataSettings:
    """What every set has. `root` and `cache` say where, never what: they are in no hash."""

    name: str  # a row of data.SETS
    root: str | None = None  # folder of downloaded sets; else the variable LAYERNORM_DATA
    cache: str | None = None  # folder of prepared arrays; else LAYERNORM_CACHE, else the user's cache folder


@dataclass(kw_only=True)
class TextData(DataSettings):
    """A symbol sequence to predict one symbol ahead. As it stands: sets with published splits (PTB, WikiText-2)."""

    kind: str = "text"
    unit: str  # what one symbol is: char | word
    seq_len: int = 64  # symbols per training window (the reach of backpropagation through time)
    batch_size: int = 32  # windows per training step
    eval_batch_size: int = 256  # parallel streams in evaluation


@dataclass(kw_only=True)
class PythonDocs(TextData):
    """The Python language reference inside the standard library; split by blocks, so every split sees every region."""

    name: str = "python_docs"
    unit: str = "char"
    blocks: int = 20  # equal consecutive pieces of the text
    val_blocks: list[int] = field(default_factory=lambda: [4, 14])  # validation text, numbered from 0
    test_blocks: list[int] = field(default_factory=lambda: [9, 19])  # test text; all others are training text


@dataclass(kw_only=True)
class FractionText(TextData):
    """A text without published splits: train first, then val, then test, each one contiguous piece.

    tinyshakespeare has no official split; the custom is 90/10 without a test part, so its numbers elsewhere are on val.
    """

    val: float = 0.05  # fraction of the symbols
    test: float = 0.05  # fraction of the symbols


@dataclass(kw_only=True)
class TextFile(FractionText):
    """Any UTF-8 file."""

    name: str = "text_file"
    path: str  # the file; relative to the working directory


@dataclass(kw_only=True)
class HubText(FractionText):
    """Any Hugging Face text set; `val` and `test` are used only where the set has no such split of its own."""

    name: str = "hf_text"
    path: str  # name on the hub, or a local file or folder (parquet and what else `datasets` reads)
    config: str | None = None  # the set's configuration, e.g. wikitext-2-v1
    column: str = "text"  # the column that holds the text, one line (or more) a row
    revision: str | None = None  # commit, tag or branch on the hub; pin it where numbers are to be compared


@dataclass(kw_only=True)
class BinarizedMNIST(TextData):
    """Rows of 784 binary pixels behind a start symbol: each row is one image, and no window crosses rows."""

    name: str = "binarized_mnist"
    unit: str = "pixel"
    seq_len: int = 784  # predictions per row: a whole image


@dataclass(kw_only=True)
class ImageData(DataSettings):
    """Images to classify. As it stands: sets with a published test split (MNIST, CIFAR-10)."""

    kind: str = "images"
    batch_size: int = 128  # images per training step
    eval_batch_size: int = 1000  # images at a time in evaluation
    val: int  # validation examples, taken from the published training split
    split_seed: int = 0  # draws the split and the subset
    train_examples: int | None = None  # a seeded subset of the training split; null: all of it
    pool: int = 1  # images are averaged over squares of this many pixels a side: 28 x 28 becomes 14 x 14 with 2


@dataclass(kw_only=True)
class SplitImages(ImageData):
    """A pool of images without published splits."""

    test: int  # test examples


@dataclass(kw_only=True)
class NoisyDigits(SplitImages):
    """Digits made hard: moved, faded and noisy. `val`, `test`, `train_examples` count underlying digits, not copies."""

    name: str = "noisy_digits"
    val: int = 397  # validation digits; of 1797 in all this leaves 1000 to train on
    test: int = 400  # test digits
    canvas: int = 12  # side of the square image, pixels; the digit is 8 x 8
    copies: int = 2  # noisy versions of each training digit
    eval_copies: int = 5  # noisy versions of each val and test digit
    max_shift: int = 2  # the digit moves off the centre by up to this many pixels, each way and axis
    contrast_low: float = 0.5  # a digit's intensity (0..1) is scaled by a uniform draw from here ...
    contrast_high: float = 1.0  # ... to here
    noise: float = 0.25  # sd of the Gaussian noise on every pixel, intensity scale 0..1
    noise_seed: int = 0  # draws shift, contrast and noise


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
}
