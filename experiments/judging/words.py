"""Cells and contrasts in words."""

from collections.abc import Mapping


def text(value: object) -> str:
    """Return a column's value as it is compared: an axis is text in a row, "" where a run has none, null in a rule."""
    return "" if value is None else str(value)


def describe(cell: Mapping) -> str:
    """Return a cell in words: LN, batch 2."""
    words = []
    for column, value in cell.items():
        if column == "norm":
            words.append(str(value).upper())
        elif column in ("model", "experiment"):
            words.append(str(value))
        elif column == "arm":
            words.append(f"equal {value}")
        else:
            words.append(f"{column.replace('_size', '').replace('_', ' ')} {value}")
    return ", ".join(words)


def contrast(a: Mapping, b: Mapping) -> tuple[str, str]:
    """Return (label, where) of a difference: what differs between two cells, and what they share."""
    shared = {column: value for column, value in a.items() if b.get(column) == value}
    left = {column: value for column, value in a.items() if column not in shared}
    right = {column: value for column, value in b.items() if column not in shared}
    return f"{describe(left)} - {describe(right)}", describe(shared)


def column_name(column: str) -> str:
    """Return a column's name without its section, in words: change/dataset_rescaling -> dataset rescaling."""
    return column.partition("/")[2].replace("_", " ")
