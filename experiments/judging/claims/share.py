"""r = gain(a)/gain(b), gain(x) = metric(base) - metric(x), with Fieller's interval.

reproduced      r <= at_most and the interval's upper end < surely_below
contradicted    the interval's lower end > at_most
not resolved    otherwise, and wherever gain(b) is not surely above 0: a share of a loss, or of nothing, says nothing
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from experiments.judging.claims.base import Kind, written
from experiments.judging.intervals import Interval, fieller_ratio
from experiments.judging.numbers import interval_text
from experiments.judging.verdict import CONTRADICTED, NOT_RESOLVED, REPRODUCED, Outcome
from experiments.judging.words import describe

if TYPE_CHECKING:
    from experiments.judging.cells import CellReader


class Share(Kind):
    name = "share"
    fields: ClassVar[tuple[str, ...]] = ("metric", "base", "a", "b", "at_most", "surely_below")
    has_margin = False
    unit = "ratio"

    def check(self) -> None:
        super().check()
        if not 0 < self.claim.at_most < self.claim.surely_below:
            self.refuse("a share needs 0 < at_most < surely_below; give both")
        sides = [self.claim.base, self.claim.a, *self.claim.b]
        for first, second in itertools.combinations(sides, 2):
            if first == second:
                self.refuse(f"{written(first)} is given twice among base, a and b; a share is of three cells")

    def subjects(self) -> list[dict]:
        return [{**over, **self.claim.a} for over in self.contexts() for _ in self.claim.b]

    def cells(self) -> list[dict]:
        sides = [self.claim.base, self.claim.a, *self.claim.b]
        return [{**over, **side} for over in self.contexts() for side in sides]

    def judge(self, reader: "CellReader") -> list[Outcome]:
        return [self.compare(reader, over, b) for over in self.contexts() for b in self.claim.b]

    def compare(self, reader: "CellReader", over: Mapping, b: Mapping) -> Outcome:
        base, first, second = ({**over, **cell} for cell in (self.claim.base, self.claim.a, b))
        gains = reader.gains(base, {"a": first, "b": second})
        of_a, of_b = describe(self.claim.a), describe(b)
        label = f"gain({of_a})/gain({of_b})"
        compared = reader.compared(label, describe(over), len(gains), [base, first, second])
        if unresolved := compared.incomplete(len(reader.seeds)):
            return unresolved
        means = f"gain({of_a}) = {gains['a'].mean():+.3g}, gain({of_b}) = {gains['b'].mean():+.3g}"
        ratio = fieller_ratio(gains["a"], gains["b"])
        if ratio is None or gains["b"].mean() < 0:
            why = f"{means}: the gain of {of_b} is not surely above 0, so a share of it says nothing"
            return compared.outcome(NOT_RESOLVED, why)
        verdict, why = self.decide(ratio)
        return compared.outcome(verdict, f"{interval_text(ratio)}; {means}: {why}", ratio)

    def decide(self, ratio: Interval) -> tuple[str, str]:
        at_most, surely_below = self.claim.at_most, self.claim.surely_below
        if ratio.estimate <= at_most and ratio.high < surely_below:
            return REPRODUCED, f"at most {at_most:g}, and surely below {surely_below:g}"
        if ratio.low > at_most:
            return CONTRADICTED, f"the whole interval lies above {at_most:g}"
        return NOT_RESOLVED, f"the interval does not settle it against {at_most:g}"

    def bounds(self) -> list[float]:
        return [self.claim.at_most, self.claim.surely_below, 1.0]

    def bands(self, low: float) -> list[tuple[float, float]]:
        return [(low, self.claim.at_most), (low, self.claim.surely_below)]

    def caption(self) -> str:
        return "Line: Fieller's 95 % interval. Darker: at most what is claimed; lighter: where its upper end must stay."

    def shading(self) -> str:
        return "what is claimed"
