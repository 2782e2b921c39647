"""A claim as the page shows it: its card, its forest plot, its contrasts with their runs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from experiments.judging.claims import kinds_of
from experiments.judging.claims.base import Kind
from experiments.judging.evidence import ExperimentResult
from experiments.judging.numbers import interval_text
from experiments.judging.verdict import MIXED, REPRODUCED, Outcome, Verdict, tally
from experiments.report import charts, tables, vega
from experiments.report.cell_runs import CellRuns, cell_runs
from experiments.report.names import in_words


@dataclass(frozen=True)
class IntervalStrip:
    """An interval against the margin; positions in percent of the strip's width."""

    name: str
    verdict: str
    zero: float
    band: tuple[float, float]
    interval: tuple[float, float, float] | None  # low, estimate, high
    numbers: str


@dataclass(frozen=True)
class ClaimView:
    """One claim: its verdict, a strip for each contrast, the forest plot, the table of contrasts with their runs."""

    verdict: Verdict
    kind: Kind
    because: str
    strips: list[IntervalStrip]
    forest: Markup
    columns: list[str]
    lines: list[tuple[list[str], list[CellRuns]]]


def claim_view(verdict: Verdict, result: ExperimentResult, everything: pd.DataFrame, profile: str) -> ClaimView:
    kind = kinds_of(result.experiment)[verdict.claim]
    frame = tables.difference_table(verdict)
    lines = []
    for values, outcome in zip(frame.itertuples(index=False), verdict.outcomes, strict=True):
        rows = everything.loc[[run_id for run_id in outcome.run_ids if run_id in everything.index]]
        lines.append((list(values), cell_runs(rows, result, profile)))
    forest = ""
    if kind.has_interval:
        name = f"{verdict.experiment}-{verdict.claim}"
        forest = vega.inline(charts.forest_drawing(verdict, kind, background=None), name, verdict.why)
    return ClaimView(verdict, kind, because(verdict, kind), strips(verdict, kind), Markup(forest), list(frame), lines)


def label_of(outcome: Outcome, verdict: Verdict, kind: Kind) -> str:
    """Return what tells a contrast from the claim's others: what its sides share, its label, or both."""
    if len(verdict.outcomes) == 1:
        return outcome.where or outcome.label
    shared = [other.where for other in verdict.outcomes]
    if len(set(shared)) == len(shared) > 1:
        return outcome.where
    return (
        f"{outcome.where}: {kind.short_label(outcome)}" if outcome.where not in ("", outcome.label) else outcome.label
    )


def because(verdict: Verdict, kind: Kind) -> str:
    """Return the sentence on a claim's card: the reason of the contrasts that decide."""
    if verdict.verdict == MIXED:
        return f"{tally(verdict.outcomes)}."
    deciding = [outcome for outcome in verdict.outcomes if outcome.verdict == verdict.verdict]
    if len(verdict.outcomes) == 1:
        return f"{deciding[0].label}: {deciding[0].why}."
    if verdict.verdict == REPRODUCED:
        return f"{'Both' if len(deciding) == 2 else f'All {len(deciding)}'} contrasts are as claimed."
    first = f"{label_of(deciding[0], verdict, kind)}: {deciding[0].why}"
    others = len(deciding) - 1
    return f"{first}; {others} more of {len(verdict.outcomes)} {verdict.verdict}." if others else f"{first}."


def strips(verdict: Verdict, kind: Kind) -> list[IntervalStrip]:
    """Return the contrasts' intervals on one scale; those of an exact claim have none."""
    low, high = charts.domain(verdict, kind.bounds())

    def percent(x: float) -> float:
        return round(100 * float(np.clip((x - low) / (high - low), 0, 1)), 2)

    left, right = kind.bands(low)[0]
    band = percent(left), percent(right)
    views = []
    for outcome in verdict.outcomes:
        t = outcome.interval
        interval = (percent(t.low), percent(t.estimate), percent(t.high)) if t else None
        name = in_words(label_of(outcome, verdict, kind))
        views.append(IntervalStrip(name, outcome.verdict, percent(0.0), band, interval, interval_text(t, verdict.unit)))
    return views
