"""From the rows to verdicts. Reads the rule (experiment/*.yaml) and the rows, and nothing else.

The metric is one where lower is better. d is the paired difference over seeds, a minus b, with its t interval:

    difference   d = metric(a) - metric(b)
                 reproduced: the interval excludes 0 in the claimed direction and |mean d| >= margin
                 contradicted: it excludes 0 in the other direction
    interaction  d = difference at at[0] - difference at at[1], decided likewise
    share        r = gain(a)/gain(b), gain(x) = metric(base) - metric(x), with Fieller's interval
                 reproduced: r <= at_most and the interval's upper end < surely_below
                 contradicted: the interval's lower end > at_most
                 not resolved unless gain(b) is surely above 0: a share of a loss, or of nothing, says nothing

Everything else is not resolved, and so is a claim with a diverged or missing run: a mean over the survivors would
flatter the one that diverged.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from experiments.check import check_claim
from experiments.config import Claim, Experiment
from experiments.statistics import Interval, bootstrap, fieller_ratio, paired_t

REPRODUCED, CONTRADICTED, NOT_RESOLVED = "reproduced", "contradicted", "not resolved"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim, with everything that the report prints."""

    experiment: str
    claim: str
    statement: str
    stated: str
    kind: str
    verdict: str
    why: str
    unit: str
    margin: float
    interval: Interval | None  # of d by Student's t, or of r by Fieller
    second: Interval | None  # of d by bootstrap
    pairs: int
    diverged: int

    def as_dict(self) -> dict:
        return asdict(self)


def judge(experiment: Experiment, rows: pd.DataFrame) -> list[Verdict]:
    """The verdicts on an experiment's claims. rows: its final runs (experiments.table)."""
    for claim in experiment.claims:
        check_claim(claim)
    return [_judge(claim, experiment, rows) for claim in experiment.claims]


def _judge(claim: Claim, experiment: Experiment, rows: pd.DataFrame) -> Verdict:
    def metric(norm: str, **cell) -> pd.Series:
        """The deciding metric by seed; NaN for a run that diverged or is missing."""
        return values(rows, experiment.metric, {**claim.cell, **cell, "norm": norm}).reindex(experiment.final_seeds)

    if claim.kind == "difference":
        d = metric(claim.a) - metric(claim.b)
        decide = _decide_difference
    elif claim.kind == "interaction":
        first, second = ({"batch_size": batch} for batch in claim.at)
        d = (metric(claim.a, **first) - metric(claim.b, **first)) - (
            metric(claim.a, **second) - metric(claim.b, **second)
        )
        decide = _decide_difference
    else:
        base = metric(claim.base)
        d = pd.DataFrame({"a": base - metric(claim.a), "b": base - metric(claim.b)})
        decide = _decide_share

    norms = [claim.a, claim.b, *([claim.base] if claim.kind == "share" else [])]
    used = rows.loc[_mask(rows, claim.cell) & rows["norm"].isin(norms)]
    if claim.kind == "interaction":
        used = used.loc[used["batch_size"].isin(claim.at)]
    diverged = int((used["status"] == "diverged").sum())
    whole = d.dropna()
    fixed = {
        "experiment": experiment.name,
        "claim": claim.id,
        "statement": claim.statement,
        "stated": claim.stated,
        "kind": claim.kind,
        "unit": "ratio" if claim.kind == "share" else experiment.unit,
        "margin": claim.margin,
        "pairs": len(whole),
        "diverged": diverged,
    }
    if len(whole) < len(experiment.final_seeds):
        lost = len(experiment.final_seeds) - len(whole)
        why = f"{lost} of {len(experiment.final_seeds)} pairs lack a result ({diverged} runs diverged)"
        return Verdict(**fixed, verdict=NOT_RESOLVED, why=why, interval=None, second=None)
    return Verdict(**fixed, **decide(claim, whole, experiment.unit))


def _mask(rows: pd.DataFrame, cell: dict) -> np.ndarray:
    mask = np.ones(len(rows), bool)
    for column, value in cell.items():
        mask &= (rows[column] == value).to_numpy()
    return mask


def values(rows: pd.DataFrame, metric: str, cell: dict) -> pd.Series:
    """The metric of a cell's runs, indexed by seed; NaN where a run diverged."""
    chosen = rows.loc[_mask(rows, cell)]
    if chosen["seed"].duplicated().any():
        raise ValueError(f"two rows for one seed in {cell}")
    column = chosen[metric] if metric in chosen else pd.Series(np.nan, chosen.index)
    return column.where(chosen["status"] == "done").set_axis(chosen["seed"])


def _decide_difference(claim: Claim, d: pd.Series, unit: str) -> dict:
    t = paired_t(d)
    sign = -1 if claim.claimed == "lower" else 1
    low, high = sorted((sign * t.low, sign * t.high))
    what = f"{claim.a.upper()} - {claim.b.upper()}" + (
        f" at batch {claim.at[0]} less that at {claim.at[1]}" if claim.kind == "interaction" else ""
    )
    numbers = f"{what} = {t.estimate:+.3f} {unit} [{t.low:+.3f}, {t.high:+.3f}]"
    if low > 0 and sign * t.estimate >= claim.margin:
        verdict, reason = REPRODUCED, f"the interval excludes 0 and the mean is beyond {claim.margin:g}"
    elif low > 0:
        verdict, reason = NOT_RESOLVED, f"in the claimed direction, but smaller than {claim.margin:g}"
    elif high < 0:
        verdict, reason = CONTRADICTED, "the interval excludes 0 in the other direction"
    else:
        verdict, reason = NOT_RESOLVED, "the interval holds 0"
    return {"verdict": verdict, "why": f"{numbers}: {reason}", "interval": t, "second": bootstrap(d)}


def _decide_share(claim: Claim, gains: pd.DataFrame, unit: str) -> dict:
    ratio = fieller_ratio(gains["a"], gains["b"])
    a, b = claim.a.upper(), claim.b.upper()
    means = f"gain({a}) = {gains['a'].mean():+.3f}, gain({b}) = {gains['b'].mean():+.3f} {unit}"
    if ratio is None or gains["b"].mean() < 0:
        return {
            "verdict": NOT_RESOLVED,
            "why": f"{means}: the gain of {b} is not surely above 0, so a share of it says nothing",
            "interval": None,
            "second": None,
        }
    numbers = f"{means}, share {ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    if ratio.estimate <= claim.at_most and ratio.high < claim.surely_below:
        verdict = REPRODUCED
        reason = f"at most {claim.at_most:g}, and surely below {claim.surely_below:g}"
    elif ratio.low > claim.at_most:
        verdict, reason = CONTRADICTED, f"the whole interval lies above {claim.at_most:g}"
    else:
        verdict, reason = NOT_RESOLVED, f"the interval does not settle it against {claim.at_most:g}"
    return {"verdict": verdict, "why": f"{numbers}: {reason}", "interval": ratio, "second": None}
