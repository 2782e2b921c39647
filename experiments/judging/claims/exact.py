"""Statements without chance: in every run a column of `holds` is at most at_most, one of `breaks` at least at_least.

Reproduced when that is so, else contradicted. These are identities: they follow from the layers' equations.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from experiments.judging.claims.base import Bound, Kind
from experiments.judging.verdict import CONTRADICTED, REPRODUCED, Outcome
from experiments.judging.words import column_name, describe

if TYPE_CHECKING:
    import pandas as pd

    from experiments.judging.cells import CellReader


class Exact(Kind):
    name = "exact"
    fields: ClassVar[tuple[str, ...]] = ("a", "holds", "breaks", "at_most", "at_least")
    has_interval = False
    has_margin = False
    is_identity = True
    unit = "relative change"

    def check(self) -> None:
        super().check()
        if not self.logged_metrics():
            self.refuse("neither holds nor breaks names a column; give one, as holds: [gap/output]")

    def decided_by(self) -> str:
        columns = self.logged_metrics()
        return (
            columns[0] if len(columns) == 1 else ", ".join(sorted({f"{one.partition('/')[0]}/..." for one in columns}))
        )

    def logged_metrics(self) -> list[str]:
        return [*self.claim.holds, *self.claim.breaks]

    def subjects(self) -> list[dict]:
        return [{**over, **self.claim.a} for over in self.contexts()]

    def cells(self) -> list[dict]:
        return self.subjects()

    def judge(self, reader: "CellReader") -> list[Outcome]:
        return [self.compare(reader, cell) for cell in self.subjects()]

    def compare(self, reader: "CellReader", cell: Mapping) -> Outcome:
        columns = reader.columns(cell, self.logged_metrics())
        compared = reader.compared(describe(cell), describe(cell), len(columns), [cell])
        if unresolved := compared.incomplete(len(reader.seeds)):
            return unresolved
        extremes = {column: self.extreme(columns[column], bound) for column, bound in self.bounded_columns().items()}
        measured = [
            f"{column_name(column)} at {'least' if self.bounded_columns()[column].at_least else 'most'} {value:.1e}"
            for column, value in extremes.items()
        ]
        wrong = [column for column, value in extremes.items() if not self.bounded_columns()[column].holds(value)]
        failed = f"; not so: {', '.join(map(column_name, wrong))}" if wrong else ""
        why = f"{', '.join(measured)} (claimed {self.asserted()}{failed})"
        return compared.outcome(CONTRADICTED if wrong else REPRODUCED, why)

    @staticmethod
    def extreme(values: "pd.Series", bound: Bound) -> float:
        """Return the value that decides: the smallest where a column must differ, else the largest."""
        return values.min() if bound.at_least else values.max()

    def asserted(self) -> str:
        """Return the bounds in words."""
        claim, parts = self.claim, []
        if claim.holds:
            parts.append(f"within {claim.at_most:g}: {', '.join(map(column_name, claim.holds))}")
        if claim.breaks:
            parts.append(f"beyond {claim.at_least:g}: {', '.join(map(column_name, claim.breaks))}")
        return "; ".join(parts)

    def bounded_columns(self) -> dict[str, Bound]:
        holds = {column: Bound(self.claim.at_most, at_least=False) for column in self.claim.holds}
        return holds | {column: Bound(self.claim.at_least, at_least=True) for column in self.claim.breaks}
