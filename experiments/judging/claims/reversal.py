"""d = (metric(a) - metric(b)) / margin in two families of networks, claimed in opposite directions.

Bits per character and percentage points cannot be compared, but the sign of a difference can, and its size in smallest
effects of interest, of which each family has its own. Every contrast is decided as a difference is; reproduced needs
all of them. Beside it stands the rank of a among `rivals`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.judging.claims.base import check_metric
from experiments.judging.claims.difference import Difference, judged_together
from experiments.judging.verdict import Outcome

if TYPE_CHECKING:
    from experiments.judging.cells import CellReader


NEEDED = {"over", "metric", "unit", "claimed", "margin"}  # of a family


class Reversal(Difference):
    name = "reversal"
    fields: ClassVar[tuple[str, ...]] = ("a", "b", "rivals", "families", "margin_from")
    in_tuning_rows = False
    unit = "smallest effects of interest"

    def check(self) -> None:
        families = self.claim.families
        for family in families:
            if not isinstance(family, Mapping) or (lacking := NEEDED - set(family)):
                absent = f"lacks {', '.join(sorted(lacking))}" if isinstance(family, Mapping) else "is no dictionary"
                self.refuse(f"a family {absent}; each has {', '.join(sorted(NEEDED))}")
        if len(families) != 2 or {family["claimed"] for family in families} != {"lower", "higher"}:
            self.refuse("a reversal is between two families, one claimed lower and one higher; give both in families")
        for part in self.parts():
            Difference.check(part)
        for a, _ in self.pairs():
            if a.get("norm") not in self.claim.rivals:
                self.refuse(f"rivals={list(self.claim.rivals)} lacks {a.get('norm')}, whose rank is reported")

    def parts(self) -> list["Family"]:
        """Return the difference that is claimed in each family."""
        return [Family(self, family) for family in self.claim.families]

    def decided_by(self) -> str:
        return " and ".join(self.logged_metrics())

    def logged_metrics(self) -> list[str]:
        return [family["metric"] for family in self.claim.families]

    def pairs(self) -> list[tuple[dict, dict]]:
        return [pair for part in self.parts() for pair in part.pairs()]

    def cells(self) -> list[dict]:
        ranked = [{**a, "norm": norm} for a, _ in self.pairs() for norm in self.claim.rivals]
        return [*super().cells(), *ranked]

    def judge(self, reader: "CellReader") -> list[Outcome]:
        contrasts = [(part, a, b) for part in self.parts() for a, b in part.pairs()]
        outcomes = judged_together([(part, part.measure(part.own(reader), a, b)) for part, a, b in contrasts])
        ranks = [part.rank(part.own(reader), a) for part, a, _ in contrasts]
        return [replace(one, why=f"{one.why}; {rank}") for one, rank in zip(outcomes, ranks, strict=True)]

    def bounds(self) -> list[float]:
        return [-1.0, 1.0]

    def bands(self, low: float) -> list[tuple[float, float]]:
        return [(-1.0, 1.0)]

    def caption(self) -> str:
        margins = " and ".join(f"{family['margin']:g} {family['unit']}" for family in self.claim.families)
        line = "Line: Student's 95 % interval; dots: its differences, one a seed."
        return f"{line} 1 is the smallest effect of interest: {margins}."

    def shading(self) -> str:
        return "below 1, too small to matter"


class Family(Difference):
    """The contrasts of one family, in units of its smallest effect of interest."""

    fields: ClassVar[tuple[str, ...]] = (*Reversal.fields, *Difference.fields)

    def __init__(self, whole: Reversal, family: Mapping[str, Any]):
        rule = replace(whole.claim, over=family["over"], claimed=family["claimed"], margin=1.0)
        super().__init__(rule, whole.experiment)
        self.family = family

    def check(self) -> None:
        super().check()
        check_metric(f"claim {self.claim.id}: metric", self.family["metric"])
        margin = self.family["margin"]
        if not (isinstance(margin, (int, float)) and 0 < margin < math.inf):
            self.refuse(f"margin={margin} of a family must be positive and finite")

    @property
    def unit(self) -> str:
        return f"times {self.family['margin']:g} {self.family['unit']}"

    def own(self, reader: "CellReader") -> "CellReader":
        """Return a reader of the family's metric in units of its smallest effect of interest."""
        return reader.of_metric(self.family["metric"], 1 / self.family["margin"])

    def rank(self, reader: "CellReader", a: Mapping) -> str:
        """Return how many of the rivals have a lower mean than a, in words."""
        values = {norm: reader.values({**a, "norm": norm}) for norm in self.claim.rivals}
        if any(len(of) < len(reader.seeds) or of.isna().any() for of in values.values()):
            return "a rank needs every run"
        means = {norm: of.mean() for norm, of in values.items()}
        better = sum(mean < means[a["norm"]] for mean in means.values())
        return f"{a['norm'].upper()} is number {better + 1} of {len(means)} ({', '.join(self.claim.rivals)})"
