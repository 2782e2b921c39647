"""Images of zeros and ones, to model."""

from dataclasses import dataclass, field

from .base import COUNT, INT32_MAX, DataSettings


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
