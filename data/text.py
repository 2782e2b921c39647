"""Text as integer sequences: what a symbol is, how a text is split, and the readers of each source.

A reader is called as `reader(settings, sources)` with the verified sources in the order of its table row and returns
small-integer arrays "train", "val", "test" and the packed "vocabulary": what the cache stores. `assemble` makes the
result of them. torch is imported there only, so that fingerprints need none.
"""

import functools
import hashlib
import json
import operator
import platform
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import binary, files
from .files import DataError, Source
from .settings import (
    DataSettings,
    FractionText,
    PythonDocs,
    PythonDocsCloze,
    PythonDocsSentences,
    TextData,
    TextFile,
)
from .types import Text

EOS, UNK, START = "<eos>", "<unk>", "<start>"

Symbols = str | list[str]  # characters, or words: both can be measured, cut and joined


def assemble(settings: TextData, arrays: dict[str, np.ndarray], manifest: dict) -> Text:
    """Arrays of shape (symbols,), or (rows, row length) where nothing crosses rows."""
    import torch

    splits, vocabulary = ("train", "val", "test"), json.loads(arrays["vocabulary"].tobytes())
    tokens = {split: torch.from_numpy(arrays[split].ravel().astype(np.int64)) for split in splits}
    row_length = arrays["train"].shape[1] if arrays["train"].ndim == 2 else None
    manifest = manifest | {"counts": {split: len(tokens[split]) for split in splits}}
    if settings.unit == "word":
        unknown = vocabulary.index(UNK) if UNK in vocabulary else -1
        shares = {split: (tokens[split] == unknown).double().mean().item() for split in splits}
        manifest["unknown"] = {split: round(share, 6) for split, share in shares.items()}
    else:  # words are many, and in order of first appearance they spell the text's beginning
        manifest["vocabulary"] = vocabulary
    return Text(tokens, vocabulary, settings.unit, row_length, manifest)


# -- Symbols -----------------------------------------------------------------------------------------------------------


def symbols(text: str, unit: str) -> Symbols:
    """char: every character. word: what stands between white space, and <eos> for each line's end."""
    if unit == "char":
        return text
    return [word for line in _lines(text) for word in (*line.split(), EOS)]


def _lines(text: str) -> list[str]:
    # Not splitlines(), which also cuts at form feeds and other marks that the published counts do not count as lines.
    return text.removesuffix("\n").split("\n") if text else []


def encode(splits: Mapping[str, Any], unit: str) -> dict[str, np.ndarray]:
    """Splits of symbols -> arrays of indices, and the packed vocabulary.

    Characters: the sorted set over the whole text. Words: those of the training split in order of first appearance;
    others become <unk>.
    """
    vocabulary, indices = (_encode_characters if unit == "char" else _encode_words)(splits)
    # JSON in bytes, since NumPy's own strings lose trailing NULs and are padded to the longest word.
    return {**indices, "vocabulary": np.frombuffer(json.dumps(vocabulary).encode(), np.uint8)}


def _encode_characters(splits: Mapping[str, str]) -> tuple[list[str], dict[str, np.ndarray]]:
    vocabulary = sorted(set().union(*splits.values()))
    index_of = np.zeros(ord(vocabulary[-1]) + 1 if vocabulary else 0, np.min_scalar_type(len(vocabulary)))
    index_of[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary))
    codes = {split: np.frombuffer(text.encode("utf-32-le"), np.uint32) for split, text in splits.items()}
    return vocabulary, {split: index_of[codes[split]] for split in splits}


def _encode_words(splits: Mapping[str, list[str]]) -> tuple[list[str], dict[str, np.ndarray]]:
    index_of = {word: index for index, word in enumerate(dict.fromkeys(splits["train"]))}
    if not index_of.keys() >= {*splits["val"], *splits["test"]}:
        index_of.setdefault(UNK, len(index_of))
    unknown = index_of.get(UNK)
    smallest = np.min_scalar_type(len(index_of))
    return list(index_of), {
        split: np.fromiter((index_of.get(word, unknown) for word in words), smallest, len(words))
        for split, words in splits.items()
    }


def carve(settings: FractionText, splits: dict[str, Symbols]) -> dict[str, Symbols]:
    """Completes train/val/test: a missing test, then a missing val, is cut off the end of train."""
    if not (settings.val > 0 and settings.test > 0 and settings.val + settings.test < 1):
        raise DataError(
            f"{settings.name}: data.val={settings.val} and data.test={settings.test} are fractions: "
            "both above 0 and together below 1; give others"
        )
    whole = len(splits["train"])
    for split, fraction in (("test", settings.test), ("val", settings.val)):
        if split not in splits:
            kept = len(splits["train"]) - round(whole * fraction)
            splits |= {"train": splits["train"][:kept], split: splits["train"][kept:]}
    return splits


# -- Readers -----------------------------------------------------------------------------------------------------------


def published_words(settings: TextData, sources: list[Source]) -> dict[str, np.ndarray]:
    """Three files of words: train, val, test."""
    return encode({split: symbols(text, "word") for split, text in _published(sources)}, "word")


def ptb_char(settings: TextData, sources: list[Source]) -> dict[str, np.ndarray]:
    """Mikolov's character version follows from his words: a space is written `_`, a line's end is one more symbol."""
    return encode({split: _spelled(text) for split, text in _published(sources)}, "char")


def _published(sources: list[Source]):
    for split, source in zip(("train", "val", "test"), sources, strict=True):
        yield split, source.path.read_bytes().decode()


def _spelled(text: str) -> str:
    return "".join(line.strip().replace(" ", "_") + "\n" for line in _lines(text))


def whole_text(settings: FractionText, sources: list[Source]) -> dict[str, np.ndarray]:
    """One file, cut by fractions."""
    [source] = sources
    try:
        text = source.path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{settings.name}: {source.path} is not UTF-8 text (byte {error.start}); convert it first, "
            "e.g. iconv -f latin1 -t utf-8"
        ) from error
    if text.startswith("\N{BYTE ORDER MARK}"):  # it would be a symbol of its own, or a part of the first word
        raise DataError(f"{settings.name}: {source.path} starts with a byte order mark; cut it off, e.g. tail -c +4")
    return encode(carve(settings, {"train": symbols(text, settings.unit)}), settings.unit)


def text_file_sources(settings: TextFile) -> list[Source]:
    return [files.given(settings.name, settings.path, "a text file")]


def python_docs(settings: PythonDocs, sources: list[Source]) -> dict[str, np.ndarray]:
    """The language reference, cut into equal blocks that are dealt out to the splits."""
    whole = symbols(language_reference(), settings.unit)
    dealt = deal_blocks(settings, len(whole), "symbols")
    return encode(
        {split: functools.reduce(operator.add, (whole[block] for block in blocks)) for split, blocks in dealt.items()},
        settings.unit,
    )


def deal_blocks(
    settings: PythonDocs | PythonDocsCloze | PythonDocsSentences, length: int, what: str
) -> dict[str, list[slice]]:
    """Return the blocks of each split, of a text of so many pieces, which are called `what`. Raises DataError."""
    val, test = settings.val_blocks, settings.test_blocks
    held_out = {*val, *test}
    if settings.blocks > length:
        raise DataError(
            f"{settings.name}: data.blocks={settings.blocks} is more than the text's {length} {what}; give fewer"
        )
    numbered = all(0 <= block < settings.blocks for block in held_out)
    if not (val and test and numbered and len(val) + len(test) == len(held_out) < settings.blocks):
        raise DataError(
            f"{settings.name}: val_blocks={val} and test_blocks={test} must be different numbers in "
            f"0..{settings.blocks - 1}, and leave some to train on"
        )
    train = [block for block in range(settings.blocks) if block not in held_out]
    edges = [length * block // settings.blocks for block in range(settings.blocks + 1)]
    return {
        split: [slice(edges[block], edges[block + 1]) for block in blocks]
        for split, blocks in (("train", train), ("val", val), ("test", test))
    }


def python_docs_sources(settings: DataSettings) -> list[Source]:
    text = language_reference().encode()
    name = f"pydoc_data.topics of Python {platform.python_version()}"
    return [Source(name, hashlib.sha256(text).hexdigest(), len(text))]


@functools.lru_cache
def language_reference() -> str:
    """The topics in sorted order without repeated paragraphs, as ASCII.

    Topics quote each other at length: about a fifth of the text is there twice or more. A test paragraph that was also
    training text would flatter every model, so only the first of equal paragraphs stays (equal but for white space,
    since quotes differ in their indentation).
    """
    from pydoc_data.topics import topics

    first: dict[tuple[str, ...], str] = {}
    for _, topic in sorted(topics.items()):
        for paragraph in re.split(r"\n\s*\n", topic):
            if words := paragraph.split():
                first.setdefault(tuple(words), paragraph.strip("\n"))
    # Python's pages hold a dozen kinds of quotes and dashes: symbols too rare to learn.
    return "\n\n".join(first.values()).encode("ascii", "replace").decode()


def binarized_mnist(settings: TextData, sources: list[Source]) -> dict[str, np.ndarray]:
    """Rows of a start symbol and 784 pixels."""
    images = binary.mnist(settings, sources)
    rows = {split: pixels.reshape(-1, 784) for split, pixels in images.items()}
    arrays = {split: np.pad(row, ((0, 0), (1, 0)), constant_values=2) for split, row in rows.items()}
    return arrays | {"vocabulary": np.frombuffer(json.dumps(["0", "1", START]).encode(), np.uint8)}
