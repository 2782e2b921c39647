"""Texts sentence by sentence, to predict the sentences around a sentence."""

from dataclasses import dataclass, field

from .base import COUNT, Blocks, DataSettings


@dataclass(kw_only=True)
class SentenceData(DataSettings):
    """Sentences in the order of their texts; an example is one with the sentences before and after it."""

    kind: str = "sentences"
    batch_size: int = field(default=64, metadata={"help": "sentences per training step", "range": COUNT})
    eval_batch_size: int = field(default=100, metadata={"help": "sentences at a time in evaluation", "range": COUNT})
    words: int = field(
        default=20_000,
        metadata={"help": "words kept, the most frequent of the training sentences; others: <unk>", "range": COUNT},
    )
    max_length: int = field(
        default=30,
        metadata={"help": "words of a sentence; longer ones and their neighbours are left out", "range": COUNT},
    )
    val_examples: int | None = field(
        default=None,
        metadata={
            "help": "so many validation examples, evenly spaced, where they are evaluated often; null: all",
            "range": COUNT,
        },
    )


@dataclass(kw_only=True)
class Fiction(SentenceData):
    """24 novels of Project Gutenberg, split by whole novels, by their numbers there."""

    name: str = "fiction"
    val_books: list[int] = field(
        default_factory=lambda: [95], metadata={"help": "validation novels: The Prisoner of Zenda"}
    )
    test_books: list[int] = field(
        default_factory=lambda: [1874], metadata={"help": "test novels: The Railway Children; others are trained on"}
    )


@dataclass(kw_only=True)
class PythonDocsSentences(Blocks, SentenceData):
    """Sentences of the Python language reference; split by blocks, as the text `python_docs` is."""

    name: str = "python_docs_sentences"
    words: int = 1000
