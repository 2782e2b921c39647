"""An experiment and the rules of its claims, as configs/experiment/*.yaml states them."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Claim:
    """One claim's rule, written down before its runs. experiments/judging/claims has each kind.

    A cell is a dictionary of columns of the rows, as {norm: bn, batch_size: 2}. A claim has a contrast for every entry
    of `over` (columns that hold on both sides) and of `b`, and is a statement about all of them.
    """

    id: str = MISSING
    statement: str = MISSING
    stated: str = MISSING  # where: paper and section
    kind: str = MISSING  # difference, interaction, share, share_contrast or exact
    metric: str | None = None  # in place of the experiment's ...
    unit: str | None = None  # ... and its unit
    over: Any = None
    a: dict[str, Any] = field(default_factory=dict)  # the cell that the claim is about
    b: list[dict[str, Any]] = field(default_factory=lambda: [{}])  # those that it is compared with
    claimed: str = "lower"  # what the claim asserts of a - b: lower, higher, same or not_higher
    margin: float = 0.0  # smallest effect of interest, in the metric's unit
    at: list[dict[str, Any]] = field(default_factory=list)  # interaction: two cells; the second is subtracted
    base: dict[str, Any] = field(default_factory=dict)  # shares: what the gains are measured from
    at_most: float = 0.0  # share: largest gain(a)/gain(b) that still counts as claimed; exact: bound of what holds
    surely_below: float = 0.0  # share: what the upper end of its interval must stay below
    rivals: list[str] = field(default_factory=list)  # share_contrast: the normalisers among which the best is sought
    families: list[Any] = field(default_factory=list)  # share_contrast: two of {cell: {...}, metric: ...}
    holds: list[str] = field(default_factory=list)  # exact: columns that stay within at_most in every run
    breaks: list[str] = field(default_factory=list)  # exact: columns that reach at_least in every run
    at_least: float = 0.0


@dataclass
class Experiment:
    """What a set of runs is for. Written down in configs/experiment; to train one model, none of it is needed."""

    name: str = "train"  # of no experiment
    question: str = ""  # in one sentence
    metric: str = "test/loss"  # the column that decides; lower is better
    unit: str = "nats"  # of the metric
    claims: list[Claim] = field(default_factory=list)  # the rules, written before the runs
    networks: list[dict[str, Any]] = field(default_factory=list)  # that the claims are about, where profiles differ
    deviations: list[str] = field(default_factory=list)  # from the papers, in this profile; for the reader
    sources: list[str] = field(default_factory=list)  # other experiments whose rows are judged here
    # the grid of runs is hydra.sweeper.params, once for each of these, whose choices are added
    grids: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    axes: dict[str, str] = field(default_factory=dict)  # further columns of a cell, and the setting each one shows
    arm: str = ""  # the part of the experiment that a run belongs to, where budgets differ (an axis shows it)
    final_seeds: list[int] = field(default_factory=list)  # fresh ones: none of them took part in tuning
    tune_seeds: list[int] = field(default_factory=list)  # those that choose the learning rates
    tune_lr: list[float] = field(default_factory=list)  # the rates to choose from, the same for every cell
    tune_metric: str = ""  # what chooses a rate; "": the metric's twin on the validation split
