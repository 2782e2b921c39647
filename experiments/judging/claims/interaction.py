"""d = metric(a) - metric(b) at the first of two cells, less the same at the second. Decided as a difference is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from experiments.judging.claims.difference import Difference, Measured
from experiments.judging.verdict import Outcome
from experiments.judging.words import contrast, describe

if TYPE_CHECKING:
    from experiments.judging.cells import CellReader


class Interaction(Difference):
    name = "interaction"
    fields: ClassVar[tuple[str, ...]] = (*Difference.fields, "at")

    def check(self) -> None:
        if len(self.claim.at) != 2 or self.claim.at[0] == self.claim.at[1]:
            self.refuse(
                f"at={list(self.claim.at)} must be two cells that differ; give at: [{{...: small}}, {{...: large}}]"
            )
        super().check()

    def cells(self) -> list[dict]:
        return [{**cell, **at} for cell in super().cells() for at in self.claim.at]

    def measure(self, reader: "CellReader", a: Mapping, b: Mapping) -> Measured:
        first, second = self.claim.at
        cells = [{**cell, **at} for at in (first, second) for cell in (a, b)]
        a_first, b_first, a_second, b_second = (self.read(reader, cell) for cell in cells)
        label, where = contrast(a, b)
        label += f" at {describe(first)} less that at {describe(second)}"
        return self.measured(reader, label, where, (a_first - b_first) - (a_second - b_second), cells)

    def axis_title(self) -> str:
        return self.unit

    def short_label(self, outcome: Outcome) -> str:
        return outcome.label.partition(" at ")[0]
