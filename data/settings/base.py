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
