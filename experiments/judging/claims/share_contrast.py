"""r1 - r2, one normaliser's shares of the best rival's gain in two families of networks.

reproduced,     the interval excludes 0, and |r1 - r2| >= margin, in the claimed or the other direction
contradicted
not resolved    otherwise, and where one of the shares says nothing
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.judging.claims.base import Kind
from experiments.judging.claims.words import describe
from experiments.judging.intervals import Interval, share_difference
from experiments.judging.verdict import CONTRADICTED, NOT_RESOLVED, REPRODUCED, Outcome, numbers_of

if TYPE_CHECKING:
    import pandas as pd

    from experiments.judging.cells import CellReader


class ShareContrast(Kind):
    name = "share_contrast"
    unit = "difference of shares"

    def check(self) -> None:
        super().check()
        if len(self.claim.families) != 2:
            self.refuse(f"{len(self.claim.families)} families given; a contrast is between two, give both")

    def decided_by(self) -> str:
        return " and ".join(self.logged_metrics())

    def logged_metrics(self) -> list[str]:
        return [family["metric"] for family in self.claim.families]

    def subjects(self) -> list[dict]:
        return [{**over, **self.claim.a} for over in self.contexts()]

    def judge(self, reader: "CellReader") -> list[Outcome]:
        return [self.compare(reader, over) for over in self.contexts()]

    def compare(self, reader: "CellReader", over: Mapping) -> Outcome:
        """Judge one contrast. `over` chooses within the first family."""
        norm = self.claim.a["norm"]
        families = [{**family["cell"], **more} for family, more in zip(self.claim.families, (over, {}), strict=True)]
        gains = [self.gains(reader, cell, metric) for cell, metric in zip(families, self.logged_metrics(), strict=True)]
        first, second = (describe(cell) for cell in families)
        label = f"{norm.upper()}'s share of the best gain, {first} less {second}"
        cells = [{**cell, "norm": name} for cell in families for name in (self.claim.base["norm"], *self.claim.rivals)]
        compared = reader.compared(label, describe(over), min(map(len, gains)), cells)
        if unresolved := compared.incomplete(len(reader.seeds)):
            return unresolved
        means = "; ".join(self.means(name, gain) for name, gain in zip((first, second), gains, strict=True))
        difference = share_difference(gains[0].to_dict("list"), gains[1].to_dict("list"), norm)
        if difference is None:
            why = f"no gain is surely above 0 in one of the families, so a share of it says nothing (gains: {means})"
            return compared.outcome(NOT_RESOLVED, why)
        verdict, why = self.decide(difference)
        return compared.outcome(verdict, f"{numbers_of(difference)}: {why} (gains: {means})", difference)

    def gains(self, reader: "CellReader", family: Mapping, metric: str) -> "pd.DataFrame":
        rivals = {norm: {**family, "norm": norm} for norm in self.claim.rivals}
        return reader.gains({**family, **self.claim.base}, rivals, metric)

    def means(self, family: str, gains: "pd.DataFrame") -> str:
        return f"{family}: " + ", ".join(f"{norm.upper()} {gains[norm].mean():+.3f}" for norm in self.claim.rivals)

    def decide(self, difference: Interval) -> tuple[str, str]:
        if difference.low <= 0 <= difference.high:
            return NOT_RESOLVED, "the interval holds 0"
        margin = self.claim.margin
        if abs(difference.estimate) < margin:
            return NOT_RESOLVED, f"smaller than {margin:g}"
        if (difference.estimate < 0) == (self.claim.claimed == "lower"):
            return REPRODUCED, f"beyond {margin:g} as claimed"
        return CONTRADICTED, f"beyond {margin:g} in the other direction"

    def caption(self) -> str:
        margin = f"smaller than {self.claim.margin:g}, the smallest effect of interest"
        return f"Line: 95 % interval by MOVER. Band: {margin}."
