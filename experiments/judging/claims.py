"""From the rows to verdicts. Reads the rule (configs/experiment/*.yaml) and the rows, and nothing else.

A claim is about one or several contrasts, and about all of them: it is reproduced when every contrast is, contradicted
when one is, else not resolved. The metric is one where lower is better; differences are paired over seeds, which share
initial weights and the order of the data. p values are of t tests, after Holm's correction over the claim's contrasts.

    difference      d = metric(a) - metric(b)
    interaction     d = metric(a) - metric(b) at the first of two places, less the same at the second

        claimed lower     reproduced: p < 0.05, d below 0, and mean |d| >= margin, the smallest effect of interest
           or higher      contradicted: the same with d in the other direction
        claimed same      reproduced: two one-sided tests (TOST) rule out |d| >= margin
                          contradicted: p < 0.05 for d = 0, and mean |d| >= margin
        claimed           reproduced: a one-sided test rules out d >= margin
           not_higher     contradicted: p < 0.05 for d = 0, d above 0, and mean d >= margin

    share           r = gain(a)/gain(b), gain(x) = metric(base) - metric(x), with Fieller's interval
                    reproduced: r <= at_most and the interval's upper end < surely_below
                    contradicted: the interval's lower end > at_most
                    not resolved unless gain(b) is surely above 0: a share of a loss, or of nothing, says nothing
    share_contrast  r1 - r2, the shares of the best rival's gain in two families of networks
                    reproduced, contradicted: the interval excludes 0, and |r1 - r2| >= margin, in the claimed or the
                    other direction; not resolved where one share says nothing
    exact           reproduced: every run has each column of `holds` within at_most and each of `breaks` at at_least or
                    beyond; else contradicted

Intervals need no correction: a claim that needs all of its contrasts is no easier met for having several. A contrast
with a diverged or missing run is not resolved: a mean over the survivors would flatter the one that diverged.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from experiments.config.experiment import Claim, Experiment, check_claim
from experiments.judging.intervals import (
    Interval,
    bootstrap,
    fieller_ratio,
    holm,
    iqm,
    p_below,
    p_difference,
    p_equivalent,
    paired_t,
    share_difference,
)

REPRODUCED, CONTRADICTED, NOT_RESOLVED = "reproduced", "contradicted", "not resolved"
LEVEL = 0.05


@dataclass(frozen=True)
class Outcome:
    """One contrast: what was compared, what came out, and the runs behind it."""

    label: str  # LN - NONE
    where: str  # what holds on both sides: lstm, batch 2; "" where they share nothing
    verdict: str
    why: str
    pairs: int
    diverged: int
    run_ids: list[str]
    interval: Interval | None = None  # of d by Student's t, of a ratio by Fieller, of a difference of shares by MOVER
    second: Interval | None = None  # of d by bootstrap-t
    median: float | None = None
    iqm: float | None = None  # interquartile mean
    p: float | None = None  # of d = 0, two-sided, before Holm's correction ...
    p_holm: float | None = None  # ... and after
    p_margin: float | None = None  # of |d| >= margin (claimed not_higher: of d >= margin), after Holm's correction


@dataclass(frozen=True)
class Verdict:
    """One claim, with everything that the report prints."""

    experiment: str
    claim: str
    statement: str
    stated: str
    kind: str
    claimed: str
    metric: str
    unit: str
    margin: float
    verdict: str
    why: str
    outcomes: list[Outcome]

    def as_dict(self) -> dict:
        return asdict(self)


def judge(experiment: Experiment, rows: pd.DataFrame) -> list[Verdict]:
    """The verdicts on an experiment's claims. rows: the final runs of it and of its sources (experiments.runs.rows)."""
    for claim in experiment.claims:
        check_claim(claim)
    return [_judge(claim, experiment, rows) for claim in experiment.claims]


def _judge(claim: Claim, experiment: Experiment, rows: pd.DataFrame) -> Verdict:
    unit = claim.unit or experiment.unit
    unit = {"share": "ratio", "share_contrast": "difference of shares", "exact": "relative change"}.get(
        claim.kind, unit
    )
    metric = claim.metric or experiment.metric
    read = {
        "share_contrast": " and ".join(family["metric"] for family in claim.families),
        "exact": ", ".join(sorted({f"{column.partition('/')[0]}/..." for column in (*claim.holds, *claim.breaks)})),
    }.get(claim.kind, metric)
    kind: Callable = {
        "difference": _differences,
        "interaction": _differences,
        "share": _shares,
        "share_contrast": _share_contrasts,
        "exact": _exact,
    }[claim.kind]
    outcomes = kind(claim, Rows(rows, metric, experiment.final_seeds), unit)
    verdict, why = _together(outcomes, unit)
    shown = {key: getattr(claim, key) for key in ("statement", "stated", "kind", "claimed", "margin")}
    return Verdict(
        experiment.name, claim.id, **shown, metric=read, unit=unit, verdict=verdict, why=why, outcomes=outcomes
    )


def _together(outcomes: list[Outcome], unit: str) -> tuple[str, str]:
    """The verdict on all contrasts, and the sentence that says why."""
    verdicts = [outcome.verdict for outcome in outcomes]
    together = next((v for v in (CONTRADICTED, NOT_RESOLVED) if v in verdicts), REPRODUCED)
    if len(outcomes) == 1:
        return together, f"{outcomes[0].label}: {outcomes[0].why}"
    told = []
    for outcome in outcomes:
        numbers = _numbers(outcome.interval) + " " if outcome.interval else ""
        where = f" ({outcome.where})" if outcome.where not in ("", outcome.label) else ""
        told.append(f"{outcome.label}{where} {numbers}{outcome.verdict}")
    return together, f"{'; '.join(told)} ({unit})"


def _numbers(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


@dataclass(frozen=True)
class Rows:
    """The rows of an experiment, as the kinds of claims read them."""

    table: pd.DataFrame
    metric: str
    seeds: list[int]

    def values(self, cell: Mapping, metric: str | None = None) -> pd.Series:
        """The metric by seed; NaN for a run that diverged or is missing."""
        return values(self.table, metric or self.metric, cell).reindex(self.seeds)

    def counts(self, *cells: Mapping) -> dict:
        """Diverged runs and the ids of all runs of some cells."""
        used = pd.concat([self.table.loc[_mask(self.table, cell)] for cell in cells])
        return {"diverged": int((used["status"] == "diverged").sum()), "run_ids": list(used["run_id"])}

    def lacking(self, whole: pd.Series | pd.DataFrame, diverged: int) -> dict | None:
        """What an outcome says when pairs are missing; None when none is."""
        lost = len(self.seeds) - len(whole)
        why = f"{lost} of {len(self.seeds)} pairs lack a result ({diverged} runs diverged)"
        return {"verdict": NOT_RESOLVED, "why": why} if lost else None


def _mask(rows: pd.DataFrame, cell: Mapping) -> np.ndarray:
    """Which rows have the cell's columns; as text, since an axis is text in a row and may be a number in a rule."""
    mask = np.ones(len(rows), bool)
    for column, value in cell.items():
        mask &= (rows[column].astype(str) == str(value)).to_numpy() if column in rows else False
    return mask


def values(rows: pd.DataFrame, metric: str, cell: Mapping) -> pd.Series:
    """The metric of a cell's runs, indexed by seed; NaN where a run diverged."""
    chosen = rows.loc[_mask(rows, cell)]
    if chosen["seed"].duplicated().any():
        raise ValueError(f"two rows for one seed in {dict(cell)}")
    column = chosen[metric] if metric in chosen else pd.Series(np.nan, chosen.index)
    return column.where(chosen["status"] == "done").set_axis(chosen["seed"])


def describe(cell: Mapping) -> str:
    """A cell in words: LN, batch 2."""
    words = []
    for column, value in cell.items():
        if column == "norm":
            words.append(str(value).upper())
        elif column in ("model", "experiment"):
            words.append(str(value))
        elif column == "arm":
            words.append(f"equal {value}")
        else:
            words.append(f"{column.replace('_size', '').replace('_', ' ')} {value}")
    return ", ".join(words)


def _contrast(a: Mapping, b: Mapping) -> tuple[str, str]:
    """(label, where) of a difference: what differs between the two cells, and what they share."""
    shared = {column: value for column, value in a.items() if b.get(column) == value}
    left, right = ({c: v for c, v in cell.items() if c not in shared} for cell in (a, b))
    return f"{describe(left)} - {describe(right)}", describe(shared)


# --- differences and interactions -------------------------------------------------------------------------------------


def _differences(claim: Claim, rows: Rows, unit: str) -> list[Outcome]:
    found = [_difference(claim, rows, {**over, **claim.a}, {**over, **b}) for over in claim.over for b in claim.b]
    # A contrast without a p value counts in the correction: the claim was about it too.
    p_holm = holm([1.0 if p is None else p for p in (outcome.p for outcome, _ in found)])
    margin = p_below if claim.claimed == "not_higher" else p_equivalent
    p_margin = holm([1.0 if d is None else margin(d, claim.margin) for _, d in found])
    outcomes = []
    for (outcome, d), adjusted, equivalent in zip(found, p_holm, p_margin, strict=True):
        if d is not None and (interval := outcome.interval):
            outcome = replace(outcome, p_holm=adjusted, p_margin=equivalent)
            verdict, reason = _decide(claim, outcome)
            outcome = replace(outcome, verdict=verdict, why=f"{_numbers(interval)} {unit}: {reason}")
        outcomes.append(outcome)
    return outcomes


def _difference(claim: Claim, rows: Rows, a: Mapping, b: Mapping) -> tuple[Outcome, pd.Series | None]:
    """A contrast before Holm's correction, and its differences; None for them when a pair is missing."""
    label, where = _contrast(a, b)
    if claim.kind == "difference":
        cells = [a, b]
        d = rows.values(a) - rows.values(b)
    else:
        first, second = claim.at
        cells = [{**cell, **place} for place in claim.at for cell in (a, b)]
        a1, b1, a2, b2 = (rows.values(cell) for cell in cells)
        d = (a1 - b1) - (a2 - b2)
        label += f" at {describe(first)} less that at {describe(second)}"
    d, counts = d.dropna(), rows.counts(*cells)
    fixed: dict[str, Any] = {"label": label, "where": where, "pairs": len(d), **counts}
    if lacking := rows.lacking(d, counts["diverged"]):
        return Outcome(**fixed, **lacking), None
    numbers: dict[str, Any] = {
        "interval": paired_t(d),
        "second": bootstrap(d),
        "median": float(d.median()),
        "iqm": iqm(d),
    }
    return Outcome(**fixed, **numbers, verdict=NOT_RESOLVED, why="", p=p_difference(d)), d


def _decide(claim: Claim, outcome: Outcome) -> tuple[str, str]:
    """The verdict on a difference, and the reason."""
    assert outcome.interval and outcome.p_holm is not None and outcome.p_margin is not None
    mean, margin = outcome.interval.estimate, f"{claim.margin:g}"
    significant = outcome.p_holm < LEVEL
    large = significant and abs(mean) >= claim.margin
    excluded = outcome.p_margin < LEVEL
    told = f"p = {outcome.p_holm:.2g}" if outcome.p_holm >= 0.001 else "p < 0.001"
    if claim.claimed in ("lower", "higher"):
        claimed = (mean < 0) == (claim.claimed == "lower")
        if large and claimed:
            return REPRODUCED, f"beyond {margin} as claimed ({told})"
        if large:
            return CONTRADICTED, f"beyond {margin} in the other direction ({told})"
        if significant:
            direction = "as claimed" if claimed else "in the other direction"
            return NOT_RESOLVED, f"{direction}, but smaller than {margin} ({told})"
        rest = f"a difference of {margin} is ruled out" if excluded else f"nor is a difference of {margin} ruled out"
        return NOT_RESOLVED, f"no difference is shown ({told}), {rest}"
    what = f"a difference of {margin}" if claim.claimed == "same" else f"a loss of {margin}"
    if excluded:
        return REPRODUCED, f"{what} is ruled out (margin test, p = {outcome.p_margin:.2g})"
    if large and (claim.claimed == "same" or mean > 0):
        return CONTRADICTED, f"beyond {margin} ({told})"
    return NOT_RESOLVED, f"{what} is neither ruled out (p = {outcome.p_margin:.2g}) nor shown ({told})"


# --- shares of a gain -------------------------------------------------------------------------------------------------


def _shares(claim: Claim, rows: Rows, unit: str) -> list[Outcome]:
    return [_share(claim, rows, over, b) for over in claim.over for b in claim.b]


def _share(claim: Claim, rows: Rows, over: Mapping, b: Mapping) -> Outcome:
    base, first, second = ({**over, **cell} for cell in (claim.base, claim.a, b))
    gains = pd.DataFrame({"a": rows.values(base) - rows.values(first), "b": rows.values(base) - rows.values(second)})
    gains, counts = gains.dropna(), rows.counts(base, first, second)
    names = describe(claim.a), describe(b)
    fixed: dict[str, Any] = {
        "label": f"gain({names[0]})/gain({names[1]})",
        "where": describe(over),
        "pairs": len(gains),
        **counts,
    }
    if lacking := rows.lacking(gains, counts["diverged"]):
        return Outcome(**fixed, **lacking)
    means = f"gain({names[0]}) = {gains['a'].mean():+.3f}, gain({names[1]}) = {gains['b'].mean():+.3f}"
    ratio = fieller_ratio(gains["a"], gains["b"])
    if ratio is None or gains["b"].mean() < 0:
        why = f"{means}: the gain of {names[1]} is not surely above 0, so a share of it says nothing"
        return Outcome(**fixed, verdict=NOT_RESOLVED, why=why)
    if ratio.estimate <= claim.at_most and ratio.high < claim.surely_below:
        verdict, reason = REPRODUCED, f"at most {claim.at_most:g}, and surely below {claim.surely_below:g}"
    elif ratio.low > claim.at_most:
        verdict, reason = CONTRADICTED, f"the whole interval lies above {claim.at_most:g}"
    else:
        verdict, reason = NOT_RESOLVED, f"the interval does not settle it against {claim.at_most:g}"
    return Outcome(**fixed, verdict=verdict, why=f"{_numbers(ratio)}; {means}: {reason}", interval=ratio)


def _share_contrasts(claim: Claim, rows: Rows, unit: str) -> list[Outcome]:
    return [_share_contrast(claim, rows, over) for over in claim.over]


def _share_contrast(claim: Claim, rows: Rows, over: Mapping) -> Outcome:
    """`over` chooses within the first family."""
    of, gains, cells = claim.a["norm"], [], []
    for family, more in zip(claim.families, (over, {}), strict=True):
        cell, metric = {**family["cell"], **more}, family["metric"]
        base = rows.values({**cell, **claim.base}, metric)
        gains.append(pd.DataFrame({n: base - rows.values({**cell, "norm": n}, metric) for n in claim.rivals}).dropna())
        cells += [{**cell, "norm": norm} for norm in (claim.base["norm"], *claim.rivals)]
    counts = rows.counts(*cells)
    places = [describe({**family["cell"], **more}) for family, more in zip(claim.families, (over, {}), strict=True)]
    label = f"{of.upper()}'s share of the best gain, {places[0]} less {places[1]}"
    fixed: dict[str, Any] = {"label": label, "where": describe(over), "pairs": min(map(len, gains)), **counts}
    whole = min(gains, key=len)
    if lacking := rows.lacking(whole, counts["diverged"]):
        return Outcome(**fixed, **lacking)
    first, second = (gain.to_dict("list") for gain in gains)
    difference = share_difference(first, second, of)
    means = "; ".join(
        f"{place}: " + ", ".join(f"{norm.upper()} {gain[norm].mean():+.3f}" for norm in claim.rivals)
        for place, gain in zip(places, gains, strict=True)
    )
    if difference is None:
        why = f"no gain is surely above 0 in one of the families, so a share of it says nothing (gains: {means})"
        return Outcome(**fixed, verdict=NOT_RESOLVED, why=why)
    sign = -1 if claim.claimed == "lower" else 1
    settled = difference.low > 0 or difference.high < 0
    verdict, reason = NOT_RESOLVED, "the interval holds 0"
    if settled and abs(difference.estimate) < claim.margin:
        reason = f"smaller than {claim.margin:g}"
    elif settled and sign * difference.estimate > 0:
        verdict, reason = REPRODUCED, f"beyond {claim.margin:g} as claimed"
    elif settled:
        verdict, reason = CONTRADICTED, f"beyond {claim.margin:g} in the other direction"
    why = f"{_numbers(difference)}: {reason} (gains: {means})"
    return Outcome(**fixed, verdict=verdict, why=why, interval=difference)


# --- exact statements -------------------------------------------------------------------------------------------------


def _exact(claim: Claim, rows: Rows, unit: str) -> list[Outcome]:
    return [_exactly(claim, rows, {**over, **claim.a}) for over in claim.over]


def _exactly(claim: Claim, rows: Rows, cell: Mapping) -> Outcome:
    columns = pd.DataFrame({column: rows.values(cell, column) for column in (*claim.holds, *claim.breaks)}).dropna()
    counts = rows.counts(cell)
    fixed: dict[str, Any] = {"label": describe(cell), "where": describe(cell), "pairs": len(columns), **counts}
    if lacking := rows.lacking(columns, counts["diverged"]):
        return Outcome(**fixed, **lacking)
    largest, smallest = columns[claim.holds].max(), columns[claim.breaks].min()
    wrong = [*largest.index[largest > claim.at_most], *smallest.index[smallest < claim.at_least]]
    told = [f"{_short(column)} at most {value:.1e}" for column, value in largest.items()]
    told += [f"{_short(column)} at least {value:.1e}" for column, value in smallest.items()]
    verdict = CONTRADICTED if wrong else REPRODUCED
    bounds = [f"within {claim.at_most:g}: {', '.join(map(_short, claim.holds))}"] if claim.holds else []
    bounds += [f"beyond {claim.at_least:g}: {', '.join(map(_short, claim.breaks))}"] if claim.breaks else []
    failed = f"; not so: {', '.join(map(_short, wrong))}" if wrong else ""
    return Outcome(**fixed, verdict=verdict, why=f"{', '.join(told)} (claimed {'; '.join(bounds)}{failed})")


def _short(column: str) -> str:
    return column.partition("/")[2].replace("_", " ")
