"""d = log(t(a)/t(b)): how much sooner one of two runs reaches a loss that both reach. Decided as a difference is.

The loss is the higher of the two lowest validation losses of a pair, so neither run falls short of it, and a run that
ends above the other's best is not taken for one that is as fast. t counts steps, examples or seconds of training, with
the loss interpolated linearly between two evaluations; what is reached before the first one counts as reached there.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from experiments.config.errors import unknown_word
from experiments.judging.claims.difference import Difference, Measured
from experiments.judging.intervals import Interval
from experiments.judging.numbers import interval_text
from experiments.judging.words import contrast

if TYPE_CHECKING:
    import pandas as pd

    from experiments.judging.cells import CellReader

CLOCKS = {"steps": "step", "examples": "examples", "seconds": "seconds"}  # claim's clock: column of the curves


class Speed(Difference):
    name = "speed"
    fields: ClassVar[tuple[str, ...]] = ("clock", "a", "b", "claimed", "margin", "margin_from")
    in_tuning_rows = False

    @property
    def metric(self) -> str:
        return "val/loss"

    @property
    def unit(self) -> str:
        return f"log ratio of {self.claim.clock}"

    def decided_by(self) -> str:
        return f"{self.claim.clock} to a common val/loss"

    def logged_metrics(self) -> list[str]:
        return []  # it is read off the curves

    def check(self) -> None:
        super().check()
        if self.claim.clock not in CLOCKS:
            self.refuse(unknown_word("clock", self.claim.clock, CLOCKS))

    def measure(self, reader: "CellReader", a: Mapping, b: Mapping) -> Measured:
        label, where = contrast(a, b)
        column = CLOCKS[self.claim.clock]
        first, second = reader.curves_of(a), reader.curves_of(b)
        ratios = {
            seed: log_ratio(first[seed], second[seed], column) for seed in reader.seeds if seed in first.keys() & second
        }
        return self.measured(reader, label, where, series(ratios, reader), [a, b])

    def numbers(self, interval: Interval) -> str:
        times, low, high = (float(np.exp(x)) for x in (interval.estimate, interval.low, interval.high))
        return (
            f"{times:.2f} [{low:.2f}, {high:.2f}] of the {self.claim.clock} ({interval_text(interval)} in logarithms)"
        )

    def axis_title(self) -> str:
        return f"◂ first is sooner · {self.unit} · second is sooner ▸"

    def caption(self) -> str:
        return (
            "Line: Student's 95 % interval of the logarithm of the ratio; dots: one a seed. -0.69 is half the "
            f"{self.claim.clock}. Band: smaller than {self.claim.margin:g}, the smallest effect of interest."
        )


def series(by_seed: Mapping[int, float], reader: "CellReader") -> "pd.Series":
    import pandas as pd

    return pd.Series(by_seed, dtype=float).reindex(reader.seeds)


def log_ratio(a: "pd.DataFrame", b: "pd.DataFrame", column: str) -> float:
    """Return log(t(a)/t(b)) of two curves, t being the column's value where each first reaches the common loss."""
    target = max(a["val/loss"].min(), b["val/loss"].min())
    return float(np.log(crossing(a, target, column) / crossing(b, target, column)))


def crossing(curve: "pd.DataFrame", target: float, column: str) -> float:
    """Return the column's value at which the loss first comes down to a target that it reaches."""
    loss, clock = curve["val/loss"].to_numpy(), curve[column].to_numpy(float)
    at = int(np.flatnonzero(loss <= target)[0])
    if at == 0:
        return clock[0]
    part = (loss[at - 1] - target) / (loss[at - 1] - loss[at])
    return clock[at - 1] + part * (clock[at] - clock[at - 1])
