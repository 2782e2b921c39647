"""Paired differences between the cells of some runs, and how they depend on a further field.

d = metric(cell) - metric(baseline's cell that is like it in all else)          over the seeds that both have
d at one value of a field less d at its first value                             over the seeds that all four have
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from experiments.compare.cells import (
    Cell,
    Differing,
    baseline_of,
    confounded,
    differing,
    natural,
    partner,
    short_names,
)
from experiments.compare.reading import OwnRun
from experiments.config.errors import ConfigError, nearest
from experiments.judging.intervals import Interval, bootstrap, holm, iqm, p_difference, paired_t
from experiments.judging.words import contrast, describe
from experiments.report.style import norms_of

ALWAYS = ("loss", "accuracy")  # metrics beside the one that a kind of data is judged by


@dataclass(frozen=True)
class CellOfRuns:
    """The runs of one cell by seed, and its fields as tables name them."""

    fields: Cell
    named: dict[str, str]
    runs: dict[int, OwnRun]

    @property
    def name(self) -> str:
        return describe(self.named) or "all"


@dataclass(frozen=True)
class Difference:
    """A paired difference: by seed, and what it says of the mean. Without a second pair there is no interval."""

    label: str
    where: str
    by_seed: dict[int, float]
    runs: list[OwnRun]
    norm: str = ""  # of the cell that is compared, for its colour
    p_holm: float | None = None

    @property
    def values(self) -> np.ndarray:
        return np.array(list(self.by_seed.values()))

    @property
    def pairs(self) -> int:
        return len(self.by_seed)

    @property
    def mean(self) -> float | None:
        return float(self.values.mean()) if self.pairs else None

    @property
    def interval(self) -> Interval | None:
        return paired_t(self.values) if self.pairs > 1 else None

    @property
    def bootstrap(self) -> Interval | None:
        return bootstrap(self.values) if self.pairs > 1 else None

    @property
    def median(self) -> float | None:
        return float(np.median(self.values)) if self.pairs else None

    @property
    def iqm(self) -> float | None:
        return iqm(self.values) if self.pairs else None

    @property
    def p(self) -> float | None:
        return p_difference(self.values) if self.pairs > 1 else None

    @property
    def diverged(self) -> int:
        return sum(run.diverged for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """All that the files of a comparison hold. columns: the fields that differ, by the names in tables."""

    metric: str
    baseline: str
    against: list[str]  # the baseline's fields, as tables name them
    columns: list[str]
    cells: list[CellOfRuns]
    following: dict[str, str]  # name in tables of the fields that follow others, by field
    differences: list[Difference]
    interactions: list[Difference]
    notices: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[OwnRun]:
        return [run for cell in self.cells for run in cell.runs.values()]


def compared(runs: list[OwnRun], typed: list[str], metric: str | None, notices: Sequence[str] = ()) -> Comparison:
    """Compare runs. typed: the baseline's field:value. Raises ConfigError where there is nothing to compare."""
    metric = metric_of(runs, metric)
    baseline = baseline_of(runs, typed)
    fields = differing(runs, baseline)
    names = short_names([*fields.columns, *fields.following])
    cells, twice = cells_of(runs, fields, names)
    pairs, alone = paired(cells, baseline)
    if not pairs:
        raise ConfigError(f"no cell has a baseline that is like it in all else: {'; '.join(alone)}")
    differences = [_difference(a, b, metric) for a, b in pairs]
    between = _interactions(pairs, differences, baseline, names)
    follow = confounded(runs, fields)
    return Comparison(
        metric=metric,
        baseline=describe({names[name]: value for name, value in baseline.items()}),
        against=[names[name] for name in baseline],
        columns=[names[name] for name in fields.columns],
        cells=cells,
        following={name: names[name] for name in follow},
        differences=_corrected(differences),
        interactions=_corrected(between),
        notices=[
            *notices,
            *twice,
            *_go_with_the_cells([names[name] for name in follow]),
            *alone,
            *_lacking(cells, metric),
            *_pairs_notices(differences),
        ],
    )


def metric_of(runs: list[OwnRun], metric: str | None) -> str:
    """Return the metric that is compared: by default that of the runs' task, on test data if they saw any.

    Raises ConfigError for a metric that no run has, and where the runs have no default in common.
    """
    there = sorted({name for run in runs for name, value in run.row.items() if "/" in name and value is not None})
    if metric is not None:
        if metric not in there:
            listed = f"; nearest: {nearest(metric, there)}; they have: {', '.join(there)}" if there else ""
            raise ConfigError(f"metric={metric} is in none of the {len(runs)} runs{listed}")
        return metric
    done = [run for run in runs if not run.diverged]
    if not done:
        raise ConfigError(f"all {len(runs)} runs diverged: there is no metric to compare; give runs with a lower rate")
    common = [name for name in there if all(name in run.row for run in done)]
    for split in ("test", "val"):
        of_split = [name for name in common if name.startswith(f"{split}/")]
        own = [name for name in of_split if name.partition("/")[2] not in ALWAYS]
        if len(own) == 1 or of_split:
            return own[0] if len(own) == 1 else f"{split}/loss"
    raise ConfigError(f"the runs have no metric in common; give metric= one of: {', '.join(there)}")


# --- Cells and pairs --------------------------------------------------------------------------------------------------


def cells_of(runs: list[OwnRun], fields: Differing, names: Mapping[str, str]) -> tuple[list[CellOfRuns], list[str]]:
    """Return the cells in the order of their fields, and notices of runs that are in one twice."""
    by_cell: dict[tuple, dict[int, OwnRun]] = {}
    notices = []
    for run in sorted(runs, key=lambda run: (run.id, str(run.path.resolve()))):
        of_cell = by_cell.setdefault(tuple(fields.cell(run).items()), {})
        if run.seed in of_cell:
            first = of_cell[run.seed]
            notices.append(f"{run.path} is left out: {first.path} is of the same cell and seed.")
        else:
            of_cell[run.seed] = run
    norms = norms_of(run.fields["norm.name"] for run in runs)

    def order(key: tuple) -> list:
        return [(norms.index(value),) if name == "norm.name" else natural(value) for name, value in key]

    cells = []
    for key in sorted(by_cell, key=order):
        named = {names[name]: value for name, value in key if value}
        cells.append(CellOfRuns(dict(key), named, dict(sorted(by_cell[key].items()))))
    return cells, notices


def paired(cells: list[CellOfRuns], baseline: Cell) -> tuple[list[tuple[CellOfRuns, CellOfRuns]], list[str]]:
    """Return each cell with its baseline's, and a sentence for each cell that has none."""
    is_baseline = [all(cell.fields[name] == value for name, value in baseline.items()) for cell in cells]
    bases = [cell for cell, base in zip(cells, is_baseline, strict=True) if base]
    pairs, alone = [], []
    for cell in itertools.compress(cells, [not base for base in is_baseline]):
        found = partner(cell.fields, baseline, [base.fields for base in bases])
        if found is None:
            alone.append(f"{cell.name} has no baseline that is like it in all else, and is not compared.")
        else:
            pairs.append((cell, next(base for base in bases if base.fields is found)))
    return pairs, alone


def _difference(a: CellOfRuns, b: CellOfRuns, metric: str) -> Difference:
    label, where = contrast(a.named, b.named)
    values = {seed: (a.runs[seed].value(metric), b.runs[seed].value(metric)) for seed in a.runs if seed in b.runs}
    by_seed = {seed: x - y for seed, (x, y) in values.items() if x is not None and y is not None}
    return Difference(label, where, by_seed, [*a.runs.values(), *b.runs.values()], _norm(a))


def _norm(cell: CellOfRuns) -> str:
    return next(iter(cell.runs.values())).fields["norm.name"]


def _interactions(
    pairs: list[tuple[CellOfRuns, CellOfRuns]], differences: list[Difference], baseline: Cell, names: Mapping[str, str]
) -> list[Difference]:
    """Return how a difference changes with each field that both of its cells share, from the field's first value on."""
    found = []
    for name in [column for column in pairs[0][0].fields if column not in baseline]:
        alike: dict[tuple, list[int]] = {}
        for index, (a, b) in enumerate(pairs):
            if a.fields[name] == b.fields[name] != "":
                rest = tuple(value for other, value in a.fields.items() if other != name)
                alike.setdefault(rest, []).append(index)
        for indices in alike.values():
            first, *others = indices  # pairs come in the order of the cells
            start = pairs[first][0], differences[first]
            found += [_change(names[name], pairs[other], differences[other], *start) for other in others]
    return found


def _change(
    column: str, pair: tuple[CellOfRuns, CellOfRuns], at: Difference, first_cell: CellOfRuns, first: Difference
) -> Difference:
    """Return a difference less the same where `column` has its first value."""
    a, b = pair
    label, where = contrast(*({key: value for key, value in cell.named.items() if key != column} for cell in (a, b)))
    levels = [describe({column: cell.named[column]}) for cell in (a, first_cell)]
    by_seed = {seed: value - first.by_seed[seed] for seed, value in at.by_seed.items() if seed in first.by_seed}
    label = f"{label} at {levels[0]} less that at {levels[1]}"
    return Difference(label, where, by_seed, [*at.runs, *first.runs], at.norm)


def _corrected(differences: list[Difference]) -> list[Difference]:
    """Return the differences with Holm's p values over those of one table that have a p value."""
    tested = [one for one in differences if one.p is not None]
    adjusted = dict(zip(map(id, tested), holm([one.p for one in tested if one.p is not None]), strict=True))
    return [replace(one, p_holm=adjusted.get(id(one))) for one in differences]


# --- Notices ----------------------------------------------------------------------------------------------------------


def _go_with_the_cells(columns: Sequence[str]) -> list[str]:
    """Return a sentence about fields that say nothing more than the cells: what differs may be their doing."""
    if not columns:
        return []
    verb = "goes" if len(columns) == 1 else "go"
    return [f"{', '.join(columns)} {verb} with the cells (values: cells.csv): the two effects cannot be separated."]


def _lacking(cells: Iterable[CellOfRuns], metric: str) -> list[str]:
    notices = []
    for cell in cells:
        if lost := [seed for seed, run in cell.runs.items() if run.diverged]:
            notices.append(
                f"{cell.name}: {len(lost)} of {len(cell.runs)} runs diverged (seeds {', '.join(map(str, lost))}); the "
                "pairs that remain flatter it."
            )
        if without := [run.id for run in cell.runs.values() if not run.diverged and run.value(metric) is None]:
            notices.append(f"{cell.name}: {len(without)} runs have no finite {metric}, first {without[0]}.")
    return notices


def _pairs_notices(differences: list[Difference]) -> list[str]:
    notices = []
    for n in sorted({one.pairs for one in differences if one.pairs < 2}):
        few = [one for one in differences if one.pairs == n]
        which = "All differences" if len(few) == len(differences) else f"{len(few)} of {len(differences)} differences"
        what = "rest on one seed: they have no interval, which takes two pairs" if n else "have no seed in common"
        notices.append(f"{which} {what}; train more seeds, as seed=0,1,2,3,4 with -m.")
    return notices
