"""What differs between runs, the cells that it makes, and which cell is the baseline of which."""

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.compare.reading import CONTENT, OwnRun, text_of
from experiments.config.errors import ConfigError, nearest

Cell = dict[str, str]  # value by field, "" where a run has no such field
NAMES = ("model.name", "norm.name", "data.name", "optim.name")
LAST = "optim.lr"  # where a rate was tuned for every cell, it follows the other fields, and not they it


@dataclass(frozen=True)
class Differing:
    """The fields whose values tell the cells apart, the baseline's first, and those that say nothing more."""

    columns: list[str]
    following: list[str]

    def cell(self, run: OwnRun) -> Cell:
        return {name: run.fields.get(name, "") for name in self.columns}


def differing(runs: Iterable[OwnRun], first: Iterable[str] = ()) -> Differing:
    """Return which fields differ. One that is a function of the fields before it, in these runs, follows them.

    first: fields of the baseline, which come before all others.
    """
    runs, first = list(runs), list(first)
    known = {name for run in runs for name in run.fields}
    varying = [name for name in known if len({run.fields.get(name, "") for run in runs}) > 1]
    columns: list[str] = []
    following: list[str] = []
    for name in sorted(varying, key=lambda name: (name not in first, _rank(name), name)):
        found: dict[tuple, set[str]] = {}
        for run in runs:
            key = tuple(run.fields.get(column, "") for column in columns)
            found.setdefault(key, set()).add(run.fields.get(name, ""))
        follows = all(len(values) == 1 for values in found.values())
        (following if follows else columns).append(name)
    return Differing(columns, following)


def _rank(name: str) -> int:
    """Return where a field comes: what was chosen by name, then what was set, the learning rate last."""
    return NAMES.index(name) if name in NAMES else len(NAMES) + (name == LAST)


def confounded(runs: Iterable[OwnRun], fields: Differing) -> list[str]:
    """Return the following fields that every run has: one that only some have comes with a choice, as norm.groups."""
    runs = list(runs)
    of_set = {CONTENT} if "data.name" in fields.columns else set()
    return sorted(name for name in fields.following if name not in of_set and all(name in run.fields for run in runs))


# --- Names ------------------------------------------------------------------------------------------------------------


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """Return each field's name in tables: norm for norm.name, seq_len for data.seq_len; in full where two agree."""
    fields = list(fields)
    short = {field: _short(field) for field in fields}
    return {
        field: name if list(short.values()).count(name) == 1 and name not in fields else field
        for field, name in short.items()
    }


def _short(field: str) -> str:
    section, _, name = field.rpartition(".")
    return section if name == "name" else name


# --- The baseline -----------------------------------------------------------------------------------------------------


def baseline_of(runs: list[OwnRun], typed: list[str]) -> Cell:
    """Return the fields and values of the baseline. Raises ConfigError where no run has them, or all have."""
    if not typed:
        norms = {run.fields["norm.name"] for run in runs}
        if len(norms) > 1 and "none" in norms:
            return {"norm.name": "none"}
        raise ConfigError(f"baseline= is missing; give a field and the value of one side, as {_offer(runs)}")
    found: Cell = {}
    for text in typed:
        field, value = _field_and_value(text, runs)
        if field in found:
            raise ConfigError(f"baseline={text} gives {field} a second value; give it once")
        found[field] = value
    alike = [run for run in runs if all(run.fields.get(name) == value for name, value in found.items())]
    if not alike:
        raise ConfigError(f"baseline={','.join(typed)}: no run has all of these values; leave one out")
    if len(alike) == len(runs):
        raise ConfigError(f"baseline={','.join(typed)} is true of all {len(runs)} runs; give {_offer(runs)}")
    return found


def _field_and_value(text: str, runs: list[OwnRun]) -> tuple[str, str]:
    typed, colon, value = text.partition(":")
    known = sorted({name for run in runs for name in run.fields})
    by_name = {name: field for field, name in short_names(known).items()} | {field: field for field in known}
    if not colon:
        raise ConfigError(f"baseline={text} is no field:value; give {_offer(runs)}")
    if typed not in by_name:
        raise ConfigError(f"baseline={text}: no run has a field {typed}; nearest: {nearest(typed, by_name)}")
    field = by_name[typed]
    there = _sorted({run.fields[field] for run in runs if field in run.fields})
    wanted = _as_shown(value)
    if wanted not in there:
        listed = f"there are: {', '.join(there)}; nearest: {nearest(value, there)}"
        raise ConfigError(f"baseline={text}: no run has {typed}={value}; {listed}")
    return field, wanted


def _as_shown(value: str) -> str:
    try:
        return text_of(float(value))
    except ValueError:
        return value


def _offer(runs: list[OwnRun]) -> str:
    """Return what a baseline can be, in words."""
    columns = differing(runs).columns
    if not columns:
        return "runs of more than one configuration: these differ in their seed alone"
    names = short_names(columns)
    listed = [
        f"{names[column]}:{'|'.join(_sorted({run.fields[column] for run in runs if column in run.fields}))}"
        for column in columns
    ]
    return " or ".join(listed)


def _sorted(values: Iterable[str]) -> list[str]:
    return sorted(values, key=natural)


def natural(value: str) -> tuple:
    """Return a key to sort by: numbers by size, then words."""
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def partner(cell: Cell, baseline: Iterable[str], bases: Iterable[Cell]) -> Cell | None:
    """Return which of the baseline's cells is like this one in all else, None if none is. baseline: its fields.

    A field that only one of the two has, as the groups of norm=gn, makes no difference. Raises ConfigError where
    several cells are, and more of the baseline has to be named.
    """
    rest = [name for name in cell if name not in baseline]
    found = [
        other for other in bases if all(other[name] == cell[name] or "" in (other[name], cell[name]) for name in rest)
    ]
    exact = [other for other in found if all(other[name] == cell[name] for name in rest)]
    found = exact or found
    if len(found) > 1:
        apart = next(name for name in rest if len({other[name] for other in found}) > 1)
        values = ", ".join(_sorted({other[apart] for other in found}))
        raise ConfigError(f"the baseline is {len(found)} cells, with {apart} {values}; give that in baseline= as well")
    return found[0] if found else None
