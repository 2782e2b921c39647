"""What a field of a schema declares in its metadata: its meaning ("help"), its range and its choices.

Read from here alone, by --help, by the check of a configuration and by Tab completion.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from data.settings import INT32_MAX


class Range(NamedTuple):
    words: str  # as an error message has it: give ...
    short: str  # as --help has it
    holds: Callable[[float], bool]


# The ranges that have an open end. A field names its own by the key.
INEQUALITIES = {
    "> 0": Range("a number above 0", "> 0", lambda value: value > 0),
    ">= 0": Range("0 or a number above it", ">= 0", lambda value: value >= 0),
    "0 <= x < 1": Range("0 or a number above it, below 1", "0 <= x < 1", lambda value: 0 <= value < 1),
}


def metadata(schema: type, field: str) -> Mapping[str, Any]:
    """Return the metadata of a field; what a subclass does not declare anew is that of the class it extends."""
    merged: dict[str, Any] = {}
    for base in reversed(schema.__mro__):
        declared = base.__dict__.get("__dataclass_fields__", {})
        merged |= declared[field].metadata if field in declared else {}
    return merged


def choices(schema: type, field: str) -> tuple[str, ...]:
    """Return the words that the field, or every entry of its list, is chosen from; empty where it has no such list."""
    return metadata(schema, field).get("choices", ())


def value_range(schema: type, field: str) -> Range | None:
    """Return the range of the field, or of every entry of its list; None where every number is allowed."""
    declared = metadata(schema, field).get("range")
    if declared is None or isinstance(declared, str):
        return INEQUALITIES[declared] if declared else None
    low, high = declared
    short = f">= {low}" if high == INT32_MAX else f"{low} to {high}"
    return Range(f"a whole number from {low} to {high}", short, lambda value: low <= value <= high)


def explanation(schema: type, field: str) -> str:
    """Return what --help prints of a field: its meaning, then its choices or its range in brackets."""
    meaning = metadata(schema, field).get("help", "")
    allowed = value_range(schema, field)
    limits = ", ".join(choices(schema, field)) or (allowed.short if allowed else "")
    return f"{meaning} ({limits})" if limits else meaning
