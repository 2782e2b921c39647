"""Sentences that belong together, to find one by the other."""

from dataclasses import dataclass, field

from .base import COUNT, INT32_MAX, DataSettings

BATCH = {
    "help": "pairs per training step; those of a batch are each other's negatives",
    "range": (2, INT32_MAX),
}


@dataclass(kw_only=True)
class PairData(DataSettings):
    """Sentences that belong together. As it stands: captions of one image, translations (Multi30k, MSCOCO)."""

    kind: str = "pairs"
    batch_size: int = field(default=128, metadata=BATCH)
    eval_batch_size: int = field(default=500, metadata={"help": "pairs at a time in evaluation", "range": COUNT})
    candidates: int = field(
        default=1000,
        metadata={
            "help": "sentences among which the right one is ranked, the first of a split; at most all of it",
            "range": (2, INT32_MAX),
        },
    )
    min_count: int = field(
        default=2,
        metadata={"help": "a word that the training sentences have less often becomes <unk>", "range": COUNT},
    )
    max_length: int = field(
        default=40, metadata={"help": "words of a sentence; what is behind them is cut off", "range": COUNT}
    )
    train_examples: int | None = field(
        default=None, metadata={"help": "so many training pairs, the first ones; null: all of them", "range": COUNT}
    )


@dataclass(kw_only=True)
class PythonDocsPairs(PairData):
    """Sentences of the Python language reference: the beginning of each and its end; the splits are drawn."""

    name: str = "python_docs_pairs"
    batch_size: int = field(default=64, metadata=BATCH)
    val: int = field(default=300, metadata={"help": "validation sentences", "range": COUNT})
    test: int = field(default=300, metadata={"help": "test sentences", "range": COUNT})
    split_seed: int = field(default=0, metadata={"help": "seed of the split", "range": (0, INT32_MAX)})
