"""Texts, to predict one symbol ahead."""

from dataclasses import dataclass, field

from .base import COUNT, Blocks, DataSettings


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
class PythonDocs(Blocks, TextData):
    """The Python language reference inside the standard library; split by blocks, so every split sees every region."""

    name: str = "python_docs"
    unit: str = "char"


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
