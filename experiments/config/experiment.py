"""An experiment and the rules of its claims, as configs/experiment/*.yaml states them."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II, MISSING


@dataclass
class Claim:
    """One claim's rule, written down before its runs. experiments/judging/claims has each kind.

    A cell is a dictionary of columns of the rows, as {norm: bn, batch_size: 2}. A claim has a contrast for every entry
    of `over` (columns that hold on both sides) and of `b`, and is a statement about all of them.
    """

    id: str = field(default=MISSING, metadata={"help": "name of the claim, unique among all experiments"})
    statement: str = field(default=MISSING, metadata={"help": "the claim in one sentence"})
    stated: str | None = field(
        default=MISSING, metadata={"help": "paper and section that state it; null: a question of ours"}
    )
    kind: str = field(default=MISSING, metadata={"help": "how it is decided: a kind of experiments/judging/claims"})
    metric: str | None = field(
        default=None, metadata={"help": "column that decides this claim; null: the experiment's metric"}
    )
    log10: bool = field(
        default=False, metadata={"help": "difference, interaction: compare the metric's decimal logarithms"}
    )
    unit: str | None = field(
        default=None, metadata={"help": "unit of this claim's metric; null: the experiment's unit"}
    )
    over: Any = field(
        default=None,
        metadata={
            "help": "columns that hold on both sides: a cell or several; a list in a cell stands for each of "
            "its values, and every combination is a contrast"
        },
    )
    a: dict[str, Any] = field(default_factory=dict, metadata={"help": "the cell that the claim is about"})
    b: list[dict[str, Any]] = field(
        default_factory=lambda: [{}], metadata={"help": "the cells with which a is compared; one contrast for each"}
    )
    claimed: str = field(
        default="lower", metadata={"help": "what the claim asserts of a - b: lower, higher, same or not_higher"}
    )
    margin: float = field(
        default=0.0, metadata={"help": "smallest effect of interest, in the metric's unit; above 0 where it is used"}
    )
    margin_from: str = field(default="", metadata={"help": "where the margin comes from: a published effect"})
    at: list[dict[str, Any]] = field(
        default_factory=list, metadata={"help": "interaction: two cells; the contrast at the second is subtracted"}
    )
    base: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "share: the cell from which gains are measured"}
    )
    at_most: float = field(
        default=0.0,
        metadata={
            "help": "share: largest gain(a)/gain(b) that still counts as claimed; exact: bound of the columns in holds"
        },
    )
    surely_below: float = field(
        default=0.0, metadata={"help": "share: bound below which the upper end of its interval must stay"}
    )
    clock: str = field(
        default="steps", metadata={"help": "speed: what is counted up to the common loss: steps, examples or seconds"}
    )
    rivals: list[str] = field(
        default_factory=list, metadata={"help": "reversal: normalisers among which a is ranked in each family"}
    )
    families: list[Any] = field(
        default_factory=list,
        metadata={"help": "reversal: two of {over: {...}, metric: ..., unit: ..., claimed: ..., margin: ...}"},
    )
    holds: list[str] = field(
        default_factory=list, metadata={"help": "exact: columns that stay within at_most in every run"}
    )
    breaks: list[str] = field(
        default_factory=list, metadata={"help": "exact: columns that reach at_least in every run"}
    )
    at_least: float = field(default=0.0, metadata={"help": "exact: lower bound of the columns in breaks"})


@dataclass
class Floor:
    """How good a network, mostly the un-normalised one, has to be for verdicts on networks of its kind to count."""

    cell: dict[str, Any] = field(
        default=MISSING, metadata={"help": "the network; it stands for those of any normaliser"}
    )
    at_most: float = field(default=MISSING, metadata={"help": "its mean metric, at most"})
    metric: str | None = field(default=None, metadata={"help": "column; null: the experiment's metric"})


@dataclass
class Experiment:
    """What a set of runs is for. Written down in configs/experiment; to train one model, none of it is needed."""

    name: str = field(default="train", metadata={"help": "train: a run of no experiment"})
    question: str = field(default="", metadata={"help": "the question in one sentence"})
    metric: str = field(default="test/loss", metadata={"help": "the column that decides; lower is better"})
    unit: str = field(default="nats", metadata={"help": "unit of the metric"})
    claims: list[Claim] = field(default_factory=list, metadata={"help": "the rules, written before the runs"})
    without: list[str] = field(
        default_factory=list,
        metadata={
            "help": "claims that this profile leaves out: it lacks their runs, or their seconds are of a shared machine"
        },
    )
    floors: list[Floor] = field(
        default_factory=list, metadata={"help": "what networks must reach for a verdict on their kind to count"}
    )
    chance: float | None = field(
        default=None,
        metadata={"help": "the metric of a network that has learnt nothing; no verdict rests on such a cell"},
    )
    choices: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "cells and values that claims refer to, where profiles differ"}
    )
    deviations: list[str] = field(
        default_factory=list, metadata={"help": "deviations from the papers in this profile, printed in the report"}
    )
    gradients: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={"help": "cells in whose runs the report measures the gradients through time; [{}]: in all of them"},
    )
    sources: list[str] = field(
        default_factory=list,
        metadata={"help": "other experiments whose rows are judged here; it has no runs of its own"},
    )
    grids: list[dict[str, Any]] = field(
        default_factory=lambda: [{}],
        metadata={"help": "the grid of runs is hydra.sweeper.params, once for each of these, whose choices are added"},
    )
    axes: dict[str, str] = field(
        default_factory=dict, metadata={"help": "further columns of a cell, and the setting that each one shows"}
    )
    arm: str = field(
        default="", metadata={"help": "the part of the experiment that a run belongs to, where budgets differ"}
    )
    seeds: int = field(default=5, metadata={"help": "number of final runs of a cell, 1 or more"})
    final_seeds: list[int] = field(
        default=II("seeds:${profile.first_seed},${experiment.seeds}"),
        metadata={"help": "seeds of the runs that decide; none of them takes part in tuning"},
    )
    tune_seeds: list[int] = field(default_factory=list, metadata={"help": "seeds that choose the learning rates"})
    tune_lr: list[float] = field(
        default_factory=list, metadata={"help": "learning rates to choose from, the same for every cell"}
    )
    tune_metric: str = field(
        default="", metadata={"help": "column that chooses a rate; empty: the metric's twin on the validation split"}
    )
