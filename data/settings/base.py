"""What every data set has."""

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
class Blocks:
    """A split of one text by blocks, so that every split sees every region of it."""

    blocks: int = field(default=20, metadata={"help": "equal consecutive pieces of the text", "range": COUNT})
    val_blocks: list[int] = field(
        default_factory=lambda: [4, 14], metadata={"help": "validation text, numbered from 0"}
    )
    test_blocks: list[int] = field(
        default_factory=lambda: [9, 19], metadata={"help": "test text; all others are training text"}
    )
