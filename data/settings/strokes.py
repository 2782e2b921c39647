"""Pen trajectories, to model."""

from dataclasses import dataclass, field

from .base import COUNT, INT32_MAX, DataSettings


@dataclass(kw_only=True)
class StrokeData(DataSettings):
    """Pen trajectories to model, each with the text that it shows."""

    kind: str = "strokes"
    batch_size: int = field(default=8, metadata={"help": "trajectories per training step", "range": COUNT})
    eval_batch_size: int = field(default=32, metadata={"help": "trajectories at a time in evaluation", "range": COUNT})
    seq_len: int = field(
        default=500,
        metadata={
            "help": "points of a trajectory at most, in training and in evaluation; what follows is left out",
            "range": (2, INT32_MAX),
        },
    )


@dataclass(kw_only=True)
class Crohme(StrokeData):
    """Handwritten formulas (CROHME 2016); validation writers are held out of the published training split."""

    name: str = "crohme"
    collections: list[str] = field(
        default_factory=lambda: ["MfrDB", "expressmatch", "KAIST", "HAMEX", "MathBrush", "extension"],
        metadata={
            "help": "collections of the training split that are used",
            "choices": ("MfrDB", "expressmatch", "KAIST", "HAMEX", "MathBrush", "extension"),
        },
    )
    test: str = field(
        default="test2016",
        metadata={"help": "the published test split", "choices": ("test2013", "test2014", "test2016")},
    )
    val_writers: int = field(default=30, metadata={"help": "writers held out to validate", "range": COUNT})
    split_seed: int = field(
        default=0, metadata={"help": "seed of the held-out writers and of the order", "range": (0, INT32_MAX)}
    )
    train_examples: int | None = field(
        default=None, metadata={"help": "so many training trajectories, drawn by split_seed; null: all", "range": COUNT}
    )
    val_examples: int | None = field(
        default=None,
        metadata={
            "help": "so many validation trajectories, where they are evaluated often; null: all",
            "range": COUNT,
        },
    )


@dataclass(kw_only=True)
class DrawnLines(StrokeData):
    """Lines of the Python language reference, drawn in a single-stroke font, each line in a hand of its own."""

    name: str = "drawn_lines"
    characters: int = field(default=12, metadata={"help": "characters of a line at most", "range": (8, 100)})
    train: int = field(default=1000, metadata={"help": "training lines", "range": COUNT})
    val: int = field(default=100, metadata={"help": "validation lines", "range": COUNT})
    test: int = field(default=100, metadata={"help": "test lines", "range": COUNT})
    draw_seed: int = field(default=0, metadata={"help": "seed of the split and of the hands", "range": (0, INT32_MAX)})
