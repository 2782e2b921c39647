"""Runs that were trained once more, against the committed rows of the same ids."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.runs.folder import RunFolder
from experiments.runs.records import RunStatus

COUNTS = ("parameters", "steps", "examples", "epochs")  # compared besides the metrics; times differ in any case


@dataclass(frozen=True)
class Repeated:
    """A run and its committed row. differing: how much more each column is here; status: where those differ, both."""

    run_id: str
    differing: dict[str, float]
    status: str
    origin: str  # of the row, in words
    here: str

    @property
    def equal(self) -> bool:
        return not self.differing and not self.status

    def beyond(self, tolerance: float) -> bool:
        """Return whether a metric differs by more, or one of the two diverged."""
        return bool(self.status) or any(not abs(change) <= tolerance for change in self.differing.values())

    def __str__(self) -> str:
        if self.equal:
            return f"{self.run_id}: equal to the last bit; the row is of {self.origin}"
        changes = [f"{name} {change:+.3g}" for name, change in self.differing.items()]
        differences = ", ".join([*([self.status] if self.status else []), *changes])
        return f"{self.run_id}: differs, {differences}; the row is of {self.origin}, the run of {self.here}"


def repeated(runs: list[RunFolder], rows: Mapping[str, Mapping[str, str]]) -> Iterator[Repeated]:
    """Yield every finished run that has a row, with what differs."""
    for folder in runs:
        row, summary = rows.get(folder.run_id), folder.summary if folder.finished else None
        if row is None or summary is None:
            continue
        both = row["status"] == summary["status"] == RunStatus.DONE
        status = "" if row["status"] == summary["status"] else f"{summary['status']} here and {row['status']} there"
        names = [name for name in row if "/" in name or name in COUNTS] if both else []
        changes = {name: _change(row[name], summary.get(name)) for name in names if row[name]}
        differing = {name: change for name, change in changes.items() if change}
        yield Repeated(folder.run_id, differing, status, _origin(row), _origin(summary))


def _change(text: str, value: Any) -> float:
    """Return how much a value is more than a table's entry; NaN where there is no number in its place."""
    try:
        written, here = float(text), float(value)
    except (TypeError, ValueError):
        return math.nan
    if written == here or (math.isnan(written) and math.isnan(here)):
        return 0.0
    # A table was read once from text by pandas, whose numbers are off by a unit in the last place now and then.
    return 0.0 if abs(here - written) <= 2 * math.ulp(written) else here - written


def _origin(row: Mapping[str, Any]) -> str:
    edits = " with edits" if str(row.get("dirty")) == "True" else ""
    return f"commit {str(row.get('git'))[:12]}{edits}, {row.get('processor') or 'a processor that it does not name'}"
