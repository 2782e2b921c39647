"""The tables of a report: verdicts, paired differences, cells. Numbers here are for CSV and Markdown alike."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import values
from experiments.judging.evidence import ExperimentResult
from experiments.judging.numbers import interval_text
from experiments.judging.verdict import (
    CONTRADICTED,
    MIXED,
    NOT_RESOLVED,
    REPRODUCED,
    VERDICTS,
    Outcome,
    Verdict,
)
from experiments.report.columns import (
    cell_line,
    cell_numbers,
    difference_line,
    difference_numbers,
    rounded_table,
    without_empty,
)
from experiments.runs.rows import cell_columns

SIGN = {REPRODUCED: "✓", MIXED: "±", CONTRADICTED: "✗", NOT_RESOLVED: "?"}  # of a verdict


def contrasts(result: ExperimentResult) -> Iterator[tuple[Verdict, Outcome]]:
    for verdict in judged(result):
        for outcome in verdict.outcomes:
            yield verdict, outcome


# --- verdicts ---------------------------------------------------------------------------------------------------------


def has_runs(claim: Mapping) -> bool:
    """Return whether every contrast of a claim, as claims.json has it, rests on runs: else the claim waits for them."""
    return all(outcome["pairs"] or outcome["diverged"] for outcome in claim["outcomes"])


def is_empirical(claim: Mapping) -> bool:
    """Return whether a claim, as claims.json has it, rests on runs and could have come out otherwise."""
    return has_runs(claim) and not claim["identity"]


def left_out(experiment: Experiment) -> list[str]:
    """Return the statements of the claims that an experiment's profile leaves out."""
    return [claim.statement for claim in experiment.claims if claim.id in experiment.without]


def not_run(result: ExperimentResult) -> list[str]:
    """Return the statements of the claims that wait for runs of an experiment that has others."""
    waiting = [verdict.statement for verdict in result.verdicts if not has_runs(verdict.as_dict())]
    return waiting if len(result.rows) else []


def judged(result: ExperimentResult) -> list[Verdict]:
    """Return the verdicts that rest on runs."""
    return [verdict for verdict in result.verdicts if has_runs(verdict.as_dict())]


def waiting(results: list[ExperimentResult]) -> str:
    """Return which experiments wait for their runs; "" if none."""
    names = [result.experiment.name for result in results if result.verdicts and not judged(result)]
    return f"No run yet of {', '.join(names)}." if names else ""


def counts(claims: Iterable[Mapping]) -> str:
    """Return a sentence that counts claims by verdict: those of papers, our own questions, identities, those not run.

    claims: as claims.json has them.
    """
    everything = list(claims)
    claims = [claim for claim in everything if has_runs(claim)]
    empirical = [claim for claim in claims if is_empirical(claim)]
    stated = [claim["verdict"] for claim in empirical if claim["stated"]]
    ours = [claim["verdict"] for claim in empirical if not claim["stated"]]
    identities = [claim["verdict"] for claim in claims if claim["identity"]]
    parts = []
    for verdicts, what in ((stated, "claims of the papers"), (ours, "questions of our own")):
        each = [f"{verdicts.count(kind)} {kind}" for kind in VERDICTS if kind in verdicts]
        parts += [f"of {len(verdicts)} {what}: {', '.join(each)}"] if each else []
    if identities:
        parts.append(f"{identities.count(REPRODUCED)} of {len(identities)} identities hold")
    if waiting := len(everything) - len(claims):
        parts.append(f"{waiting} claims wait for their runs" if waiting > 1 else "1 claim waits for its runs")
    return f"{'; '.join(parts).capitalize()}."


def counts_of(results: list[ExperimentResult]) -> str:
    """Return the same sentence of results."""
    verdicts = [verdict.as_dict() for result in results for verdict in result.verdicts]
    return counts(verdicts) if verdicts else "There is no claim to judge."


def stated_by(stated: str | None) -> str:
    return f"Stated: {stated}." if stated else "A question of our own."


def source(verdict: Verdict) -> str:
    """Return who states a claim, and where the margin comes from, in a sentence."""
    who = stated_by(verdict.stated)
    return f"{who} Smallest effect of interest: {verdict.margin_from}." if verdict.margin_from else who


def pairs(verdict: Verdict) -> str:
    """Return the pairs of runs behind a verdict: 5, or 4-5 where its contrasts differ."""
    n = sorted({outcome.pairs for outcome in verdict.outcomes})
    return str(n[0]) if len(n) == 1 else f"{n[0]}-{n[-1]}"


def headline(results: list[ExperimentResult]) -> pd.DataFrame:
    """Return a row for each claim that has been run."""
    lines = [
        {
            "experiment": verdict.experiment,
            "claim": verdict.statement,
            "verdict": f"**{verdict.verdict}**",
            "because (paired over seeds, 95 %)": verdict.why,
            "n": pairs(verdict),
        }
        for result in results
        for verdict in judged(result)
    ]
    return pd.DataFrame(lines)


# --- paired differences -----------------------------------------------------------------------------------------------


def differences(results: list[ExperimentResult]) -> pd.DataFrame:
    """Return a row for each contrast, for differences.csv: every number, and the runs behind it."""
    lines = []
    for result in results:
        for verdict, outcome in contrasts(result):
            lines.append(
                {
                    **{name: getattr(verdict, name) for name in ("experiment", "claim", "kind", "claimed", "metric")},
                    **{name: getattr(verdict, name) for name in ("unit", "margin")},
                    **difference_numbers(outcome),
                    "p_margin": outcome.p_margin,
                    "diverged": outcome.diverged,
                    "verdict": outcome.verdict,
                    "why": outcome.why,
                    "run_ids": " ".join(outcome.run_ids),
                }
            )
    return rounded_table(lines)


def difference_table(verdict: Verdict) -> pd.DataFrame:
    """Return a claim's contrasts, without the columns that its kind leaves empty."""
    judged = [(outcome, verdict.unit, outcome.verdict, outcome.p_margin) for outcome in verdict.outcomes]
    return without_empty([difference_line(*one) for one in judged])


# --- cells ------------------------------------------------------------------------------------------------------------


def cells(result: ExperimentResult) -> pd.DataFrame:
    """Return a row for each cell, for cells.csv: learning rate, and the deciding metric over its seeds."""
    experiment, lines = result.experiment, []
    for cell, rows in each_cell(result.rows, experiment):
        metric, _ = metric_of(rows, experiment)
        metrics = values(rows, metric, {}).dropna()
        seconds = rows["seconds"].median() if "seconds" in rows else None
        numbers = cell_numbers(metrics, int((rows["status"] == "diverged").sum()), seconds)
        about = {"experiment": experiment.name, **cell, "lr": rows["lr"].iloc[0], "metric": metric}
        lines.append(about | numbers)
    return rounded_table(lines)


def metric_of(rows: pd.DataFrame, experiment: Experiment) -> tuple[str, str]:
    """Return (column, unit) of what decides: the experiment's metric, or a claim's where these runs have only that."""
    candidates = [(experiment.metric, experiment.unit)]
    candidates += [(claim.metric, claim.unit or experiment.unit) for claim in experiment.claims if claim.metric]
    there = [(metric, unit) for metric, unit in candidates if metric in rows and rows[metric].notna().any()]
    return (there or candidates)[0]


def each_cell(rows: pd.DataFrame, experiment: Experiment) -> Iterator[tuple[dict, pd.DataFrame]]:
    """Yield the cells of some rows, in the rows' order: (columns, their runs)."""
    columns = [column for column in cell_columns(experiment.axes) if column in rows]
    if len(rows):
        for cell, runs in rows.groupby(columns, sort=False):
            yield dict(zip(columns, cell, strict=True)), runs


def cell_table(result: ExperimentResult) -> pd.DataFrame:
    """Return the cells in the report's columns."""
    experiment, lines = result.experiment, []
    for row in cells(result).to_dict("records"):
        axes = {column: str(row[column]) for column in cell_columns(experiment.axes) if column in row}
        about = axes | {"learning rate": f"{row['lr']:g}", "metric": row["metric"]}
        lines.append(about | cell_line(row))
    return pd.DataFrame(lines)


def times(results: list[ExperimentResult]) -> pd.DataFrame:
    """Return a row for each experiment: runs, seconds of one core, the slowest run, verdicts."""
    lines = []
    for result in results:
        known = [verdict.verdict if has_runs(verdict.as_dict()) else "not run" for verdict in result.verdicts]
        outcomes = pd.Series(known).value_counts()
        run = len(result.rows) > 0
        slowest: Any = result.rows.loc[result.rows["wall_seconds"].idxmax()] if run else None
        lines.append(
            {
                "experiment": result.experiment.name,
                "runs": str(len(result.rows)),
                "core seconds": f"{result.rows['wall_seconds'].sum():.0f}" if run else "-",
                "slowest run": f"{slowest['run_id']}, {slowest['wall_seconds']:.0f} s" if run else "-",
                "verdicts": ", ".join(f"{count} {verdict}" for verdict, count in outcomes.items()),
            }
        )
    return pd.DataFrame(lines)


# --- own runs beside the reference's ----------------------------------------------------------------------------------


def comparison(results: list[ExperimentResult], reference: list[ExperimentResult]) -> pd.DataFrame:
    """Return a row for each contrast that both have: interval and verdict of each, and whether they agree."""
    theirs = {
        (result.experiment.name, verdict.claim, outcome.label, outcome.where): outcome
        for result in reference
        for verdict, outcome in contrasts(result)
    }
    lines = []
    for result in results:
        for verdict, here in contrasts(result):
            there = theirs.get((result.experiment.name, verdict.claim, here.label, here.where))
            if there is None:  # an experiment of the user's
                continue
            lines.append(
                {
                    "claim": f"{result.experiment.name}: {verdict.claim}",
                    "contrast": f"{here.label} ({here.where})" if here.where not in ("", here.label) else here.label,
                    "here": f"{interval_text(here.interval, verdict.unit)} {here.verdict}".strip(),
                    "reference": f"{interval_text(there.interval, verdict.unit)} {there.verdict}".strip(),
                    "agree": agreement(here, there),
                }
            )
    return pd.DataFrame(lines)


def agreement(here: Outcome, there: Outcome) -> str:
    """Return whether two results agree: their verdicts are the same and their intervals overlap."""
    same = here.verdict == there.verdict
    if here.interval is None or there.interval is None:
        neither = here.interval is None and there.interval is None
        return "yes" if same and neither else "same verdict" if same else "no"
    overlap = here.interval.low <= there.interval.high and there.interval.low <= here.interval.high
    if same and overlap:
        return "yes"
    return "intervals overlap" if overlap else "same verdict, intervals apart" if same else "no"
