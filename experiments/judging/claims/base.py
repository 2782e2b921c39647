"""What every kind of claim answers: to be checked, judged, printed and charted."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.config.errors import ConfigError, nearest, unknown_word
from experiments.config.experiment import Claim, Experiment
from experiments.judging.verdict import Outcome
from experiments.judging.words import text

if TYPE_CHECKING:  # pandas is not needed to check a rule
    from experiments.judging.cells import CellReader

CLAIMED = ("lower", "higher", "same", "not_higher")
RANKS = ("r1", "r5", "r10", "mean_rank", "median_rank")
RETRIEVAL = ("rsum", *(f"{side}_{metric}" for side in ("target", "source") for metric in RANKS))
UNITS_OF = {  # what a task logs of a split, by the kind of its data, or a text's symbol
    "char": ("loss", "bpc"),
    "word": ("loss", "ppl"),
    "pixel": ("loss", "nll"),
    "images": ("loss", "accuracy", "error"),
    "binary": ("loss", "bound"),
    "strokes": ("loss", "nll"),
    "pairs": ("loss", *RETRIEVAL),
    "sentences": ("loss",),
    "cloze": ("loss", "accuracy", "error"),
}
UNITS = tuple(dict.fromkeys(unit for units in UNITS_OF.values() for unit in units))
TRANSFORMATIONS = (
    *("weight_matrix_rescaling", "weight_matrix_recentring", "weight_vector_rescaling"),
    *("dataset_rescaling", "dataset_recentring", "single_case_rescaling"),
)
TRANSFER = ("sick_r", "sick_rho", "sick_mse", "msrp", "msrp_f1", "mr", "cr", "subj")
METRICS = (  # what runs log of a trained network, and claims can be about
    *(f"{split}/{unit}" for split in ("test", "val", "train") for unit in UNITS),
    *("best_val/loss", "train_eval/loss", "gap/output", "gap/loss", "seconds", "wall_seconds", "parameters"),
    *(f"change/{transformation}" for transformation in TRANSFORMATIONS),
    *(f"transfer/{task}" for task in TRANSFER),
)


EVERY_KINDS_FIELDS = ("id", "statement", "stated", "kind", "unit", "over")
DEFAULTS = vars(Claim(id="", statement="", stated=None, kind=""))


def matching_columns(cell: Mapping, run: Mapping) -> list[str]:
    """Return the columns in which a run is of the cell."""
    return [column for column, value in cell.items() if text(value) == text(run.get(column))]


def matching(cell: Mapping, runs: Sequence[Mapping]) -> list[Mapping]:
    """Return the runs of a cell."""
    return [run for run in runs if len(matching_columns(cell, run)) == len(cell)]


def written(cell: Mapping) -> str:
    """Return a cell as a rule writes it: {norm: bn, batch_size: 2}."""
    return f"{{{', '.join(f'{column}: {value}' for column, value in cell.items())}}}"


def check_metric(key: str, metric: str) -> None:
    """Check that runs log a metric. Raises ConfigError."""
    if metric not in METRICS:
        raise ConfigError(f"{key}={metric} is no metric of a run; nearest: {nearest(metric, METRICS)}")


@dataclass(frozen=True)
class Bound:
    """What a column is held against in every run: at most `limit`, or at least where the claim is that it differs."""

    limit: float
    at_least: bool

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


class Kind(ABC):
    """A claim of one kind. A subclass holds all that depends on the kind."""

    name: ClassVar[str]
    has_interval: ClassVar[bool] = True  # its outcomes are intervals: they get a forest plot
    has_margin: ClassVar[bool] = True  # what it asserts is `claimed`, beyond the smallest effect of interest
    is_identity: ClassVar[bool] = False  # true by construction: a check of the layers, no finding about networks
    fields: ClassVar[tuple[str, ...]]  # of config.experiment.Claim, besides those that every kind has

    def __init__(self, claim: Claim, experiment: Experiment):
        self.claim = claim
        self.experiment = experiment

    # -- the rule ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse a rule that could not be judged, before its runs. Raises ConfigError."""
        if self.claim.claimed not in CLAIMED:
            self.refuse(unknown_word("claimed", self.claim.claimed, CLAIMED))
        for name, default in DEFAULTS.items():
            if name not in (*EVERY_KINDS_FIELDS, *self.fields) and getattr(self.claim, name) != default:
                self.refuse(
                    f"{name} has no meaning for kind={self.name}, which has {', '.join(self.fields)}; leave it out"
                )
        for name in ("margin", "at_most", "surely_below", "at_least"):
            if not math.isfinite(value := getattr(self.claim, name)):
                self.refuse(f"{name}={value} is no finite number; give one")
        for metric in self.logged_metrics():
            check_metric(f"claim {self.claim.id}: metric", metric)
        if not self.subjects():
            self.refuse("has no contrast, since over, b or a list in a cell is empty; give it a value, or leave it out")
        if not self.experiment.sources:  # whose axes are another experiment's
            self._check_columns()

    def _check_columns(self) -> None:
        columns = ["experiment", "model", "norm", "batch_size", *self.experiment.axes]
        for column in (column for cell in self.cells() for column in cell if column not in columns):
            allowed = f"allowed: {', '.join(columns)}; nearest: {nearest(column, columns)}"
            self.refuse(f"{column} is no column of this experiment's runs; {allowed}")

    def refuse(self, message: str):
        raise ConfigError(f"claim {self.claim.id}: {message}")

    @property
    def metric(self) -> str:
        """The column that is judged."""
        return self.claim.metric or self.experiment.metric

    @property
    def unit(self) -> str:
        """The unit of the outcomes."""
        return self.claim.unit or self.experiment.unit

    def decided_by(self) -> str:
        """Return in words which columns decide."""
        return self.metric

    def logged_metrics(self) -> list[str]:
        """Return the columns that decide and that the runs log."""
        return [self.metric]

    def contexts(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of `over`, which hold on both sides of a contrast; a list in one means each of its values."""
        over = {} if self.claim.over is None else self.claim.over
        for cell in [over] if isinstance(over, Mapping) else over:
            choices = [value if isinstance(value, list) else [value] for value in cell.values()]
            for chosen in itertools.product(*choices):
                yield dict(zip(cell, chosen, strict=True))

    @abstractmethod
    def cells(self) -> list[dict[str, Any]]:
        """Return every cell that is read."""

    def check_cells(self, runs: Sequence[Mapping[str, Any]]) -> None:
        """Refuse a rule that names a cell of which there is not exactly one run a seed. Raises ConfigError.

        runs: the columns of every run of the grid, its seed and experiment among them.
        """
        for cell in self.cells():
            found = matching(cell, runs)
            if len(found) != len(self.experiment.final_seeds):
                self.refuse_cell(cell, len(found), runs)

    def refuse_cell(self, cell: Mapping, found: int, runs: Sequence[Mapping[str, Any]]):
        seeds = len(self.experiment.final_seeds)
        if not found:
            alike = max(runs, key=lambda run: len(matching_columns(cell, run)))
            close = ", ".join(f"{column}: {alike.get(column)}" for column in cell)
            self.refuse(f"no run has {written(cell)}; nearest: {{{close}}}")
        self.refuse(
            f"{written(cell)} names {found} runs for {seeds} seeds, so more than one cell; add a column that differs: "
            f"{', '.join(sorted({column for run in runs for column in run} - set(cell) - {'seed'}))}"
        )

    # -- the verdict ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def judge(self, reader: "CellReader") -> list[Outcome]:
        """Return the outcome of every contrast."""

    @abstractmethod
    def subjects(self) -> list[dict[str, Any]]:
        """Return the cell that each contrast is about, in the order of the outcomes."""

    # -- the report ----------------------------------------------------------------------------------------------------

    def bounds(self) -> list[float]:
        """Return the values that a forest plot has to show besides the intervals."""
        return [-self.claim.margin, self.claim.margin]

    def bands(self, low: float) -> list[tuple[float, float]]:
        """Return the shaded ranges of a forest plot that begins at `low`, the strictest first."""
        return [(-self.claim.margin, self.claim.margin)]

    def caption(self) -> str:
        """Return what a forest plot's marks mean."""
        margin = f"smaller than {self.claim.margin:g}, the smallest effect of interest"
        return f"Line: Student's 95 % interval; dots: its differences, one a seed. Band: {margin}."

    def axis_title(self) -> str:
        """Return the title of a forest plot's axis: the unit, and which side is good."""
        return self.unit

    def shading(self) -> str:
        """Return what is shaded on a claim's card."""
        return f"below {self.claim.margin:g}, too small to matter"

    def short_label(self, outcome: Outcome) -> str:
        """Return an outcome's label as far as it differs from those of the claim's others."""
        return outcome.label

    def bounded_columns(self) -> dict[str, Bound]:
        """Return the columns that are held against a bound in every run."""
        return {}
