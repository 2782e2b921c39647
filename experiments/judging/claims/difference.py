"""d = metric(a) - metric(b): one cell against another, paired over seeds.

    claimed lower     reproduced: p < 0.05, d below 0, and mean |d| >= margin, the smallest effect of interest
       or higher      contradicted: the same with d in the other direction
    claimed same      reproduced: two one-sided tests (TOST) rule out |d| >= margin
                      contradicted: p < 0.05 for d = 0, and mean |d| >= margin
    claimed           reproduced: a one-sided test rules out d >= margin
       not_higher     contradicted: p < 0.05 for d = 0, d above 0, and mean d >= margin

p values are of t tests, after Holm's correction over the claim's contrasts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from experiments.judging.claims.base import Kind, written
from experiments.judging.intervals import Interval, bootstrap, holm, iqm, p_below, p_difference, p_equivalent, paired_t
from experiments.judging.numbers import interval_text
from experiments.judging.verdict import CONTRADICTED, NOT_RESOLVED, REPRODUCED, Compared, Outcome
from experiments.judging.words import contrast

if TYPE_CHECKING:
    import pandas as pd

    from experiments.judging.cells import CellReader

LEVEL = 0.05


@dataclass(frozen=True)
class Measured:
    """A contrast with its differences by seed, as far as both runs of a pair have a result."""

    compared: Compared
    differences: "pd.Series"
    planned: int

    @property
    def complete(self) -> bool:
        return len(self.differences) == self.planned and not self.compared.unfit


def judged_together(contrasts: "Sequence[tuple[Difference, Measured]]") -> list[Outcome]:
    """Judge the contrasts of a claim, each by its own rule; Holm's correction is over all of them."""
    # A contrast without a p value counts in the correction: the claim was about it too.
    p_values = [p_difference(one.differences) if one.complete else 1.0 for _, one in contrasts]
    p_margins = [kind.p_margin(one.differences) if one.complete else 1.0 for kind, one in contrasts]
    adjusted = zip(contrasts, p_values, holm(p_values), holm(p_margins), strict=True)
    return [kind.outcome(one, p, p_holm, p_margin) for (kind, one), p, p_holm, p_margin in adjusted]


class Difference(Kind):
    name = "difference"
    fields: ClassVar[tuple[str, ...]] = ("metric", "log10", "a", "b", "claimed", "margin", "margin_from")
    in_tuning_rows: ClassVar[bool] = True  # what is compared is a column of the tuning runs too

    def check(self) -> None:
        super().check()
        if self.claim.margin <= 0:
            self.refuse(f"margin={self.claim.margin:g} must be positive; give the smallest effect of interest")
        for a, b in self.pairs():
            if a == b:
                self.refuse(f"{written(a)} is compared with itself; give a and b another value in a column")

    def subjects(self) -> list[dict]:
        return [a for a, _ in self.pairs()]

    def pairs(self) -> list[tuple[dict, dict]]:
        """Return the cells a and b of every contrast."""
        return [({**over, **self.claim.a}, {**over, **b}) for over in self.contexts() for b in self.claim.b]

    def cells(self) -> list[dict]:
        return [cell for pair in self.pairs() for cell in pair]

    def judge(self, reader: "CellReader") -> list[Outcome]:
        return judged_together([(self, self.measure(reader, a, b)) for a, b in self.pairs()])

    def measure(self, reader: "CellReader", a: Mapping, b: Mapping) -> Measured:
        label, where = contrast(a, b)
        first, second = (self.read(reader, cell) for cell in (a, b))
        return self.measured(reader, label, where, first - second, [a, b])

    def read(self, reader: "CellReader", cell: Mapping) -> "pd.Series":
        values = reader.values(cell)
        return values.where(values > 0).map(math.log10) if self.claim.log10 else values  # 0 has none: no result

    @staticmethod
    def measured(
        reader: "CellReader",
        label: str,
        where: str,
        differences: "pd.Series",
        cells: Sequence[Mapping],
        judged: Sequence[Mapping] | None = None,
    ) -> Measured:
        differences = differences.dropna()
        compared = reader.compared(label, where, len(differences), cells, judged)
        return Measured(compared, differences, len(reader.seeds))

    def p_margin(self, differences: "pd.Series") -> float:
        """Return the p value of a difference as large as the margin: small when it is ruled out."""
        test = p_below if self.claim.claimed == "not_higher" else p_equivalent
        return test(differences, self.claim.margin)

    def outcome(self, one: Measured, p: float, p_holm: float, p_margin: float) -> Outcome:
        if unresolved := one.compared.incomplete(one.planned):
            return unresolved
        d = one.differences
        interval = paired_t(d)
        verdict, why = self.decide(interval.estimate, p_holm, p_margin)
        return replace(
            one.compared.outcome(verdict, f"{self.numbers(interval)}: {why}", interval),
            bootstrap=bootstrap(d),
            median=float(d.median()),
            iqm=iqm(d),
            differences=d.tolist(),
            p=p,
            p_holm=p_holm,
            p_margin=p_margin,
        )

    def axis_title(self) -> str:
        return f"◂ first is better · {self.unit} · second is better ▸"

    def numbers(self, interval: Interval) -> str:
        """Return an interval with its unit, for the sentence that says why."""
        return f"{interval_text(interval, self.unit)} {self.unit}"

    def decide(self, mean: float, p: float, p_margin: float) -> tuple[str, str]:
        """Return the verdict and its reason. p, p_margin: after Holm's correction."""
        margin = self.claim.margin
        p_text = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
        if self.claim.claimed in ("lower", "higher"):
            return self._decide_direction(mean, p < LEVEL, p_margin < LEVEL, p_text)
        same = self.claim.claimed == "same"
        effect = f"a difference of {margin:g}" if same else f"a loss of {margin:g}"
        if p_margin < LEVEL:
            test = "equivalence" if same else "non-inferiority"
            return REPRODUCED, f"{effect} is ruled out ({test} test, p = {p_margin:.2g})"
        large = p < LEVEL and abs(mean) >= margin
        if large and (same or mean > 0):
            return CONTRADICTED, f"not 0 ({p_text}), the mean beyond {margin:g}"
        return NOT_RESOLVED, f"{effect} is neither ruled out (p = {p_margin:.2g}) nor shown ({p_text})"

    def _decide_direction(self, mean: float, significant: bool, ruled_out: bool, p_text: str) -> tuple[str, str]:
        margin = self.claim.margin
        as_claimed = (mean < 0) == (self.claim.claimed == "lower")
        if significant and abs(mean) >= margin:
            if as_claimed:
                return REPRODUCED, f"as claimed ({p_text}), the mean beyond {margin:g}"
            return CONTRADICTED, f"in the other direction ({p_text}), the mean beyond {margin:g}"
        if significant:
            direction = "as claimed" if as_claimed else "in the other direction"
            return NOT_RESOLVED, f"{direction}, but smaller than {margin:g} ({p_text})"
        rest = (
            f"a difference of {margin:g} is ruled out" if ruled_out else f"nor is a difference of {margin:g} ruled out"
        )
        return NOT_RESOLVED, f"no difference is shown ({p_text}), {rest}"
