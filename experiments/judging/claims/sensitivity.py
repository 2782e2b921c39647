"""d = s(a) - s(b), s = mean over a grid of learning rates of (loss - lowest loss). Decided as a difference is.

The sensitivity to the learning rate of Wortsman et al. 2023 (arXiv 2309.14322, section 2.2): how much is lost on the
average over the grid for not knowing the best rate. A run that diverged, or ended above chance, counts with the loss of
chance. The grid is the column `rate` of the experiment's cells, one and the same for all.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.judging.claims.base import matching
from experiments.judging.claims.difference import Difference, Measured
from experiments.judging.words import contrast

if TYPE_CHECKING:
    import pandas as pd

    from experiments.judging.cells import CellReader

FEWEST_RATES = 4


class Sensitivity(Difference):
    name = "sensitivity"
    fields: ClassVar[tuple[str, ...]] = ("metric", "a", "b", "claimed", "margin", "margin_from")
    in_tuning_rows = False

    def check(self) -> None:
        super().check()
        if "rate" not in self.experiment.axes or self.experiment.chance is None:
            self.refuse("a sensitivity needs experiment.axes.rate=optim.lr and experiment.chance; give both")

    def check_cells(self, runs: Sequence[Mapping[str, Any]]) -> None:
        for cell in self.cells():
            found = matching(cell, runs)
            rates = {run["rate"] for run in found}
            if len(found) != len(rates) * len(self.experiment.final_seeds) or len(rates) < FEWEST_RATES:
                self.refuse_cell(cell, len(found), runs)

    def measure(self, reader: "CellReader", a: Mapping, b: Mapping) -> Measured:
        label, where = contrast(a, b)
        rates = sorted({rate for cell in (a, b) for rate in reader.runs(cell)["rate"]})
        first, second = (losses_by_rate(reader, cell, rates) for cell in (a, b))
        d = (first.mean(axis=1) - first.min(axis=1)) - (second.mean(axis=1) - second.min(axis=1))
        rated = [(cell, losses.mean()) for cell, losses in ((a, first), (b, second)) if losses.notna().any(axis=None)]
        judged = [{**cell, "rate": mean.idxmin()} for cell, mean in rated]
        return self.measured(reader, label, where, d, [a, b], judged)


def losses_by_rate(reader: "CellReader", cell: Mapping, rates: Sequence[str]) -> "pd.DataFrame":
    """Return the metric of a cell's runs: a row a seed, a column a rate. At most chance; NaN where a run is missing."""
    runs = reader.runs(cell)
    if reader.metric not in runs:  # of tables without any run of this experiment
        runs = runs.assign(**{reader.metric: float("nan")})
    chance = reader.experiment.chance
    metric = runs[reader.metric].where(runs["status"] == "done", chance).clip(upper=chance)
    table = runs.assign(metric=metric).pivot(index="seed", columns="rate", values="metric")
    table = table.reindex(index=reader.seeds, columns=rates)
    return table.where(table.notna().all(axis=1), axis=0)  # a seed without one of its rates has no sensitivity
