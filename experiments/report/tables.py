"""The tables of a report: verdicts, paired differences, cells. Numbers here are for CSV and Markdown alike."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.config.experiment import Experiment
from experiments.judging.cells import values
from experiments.judging.evidence import ExperimentResult
from experiments.judging.intervals import Interval, iqm
from experiments.judging.verdict import (
    CONTRADICTED,
    MIXED,
    NOT_RESOLVED,
    REPRODUCED,
    VERDICTS,
    Outcome,
    Verdict,
    decimals,
)
from experiments.runs.rows import cell_columns

SIGN = {REPRODUCED: "✓", MIXED: "±", CONTRADICTED: "✗", NOT_RESOLVED: "?"}  # of a verdict
DIGITS = 6  # significant; the last ones of a float64 differ between processors, and the tables must not


def plain(value):
    """Return a value as JSON holds it, all the way down: floats at DIGITS digits, NaN and infinity as null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return rounded(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def rounded(value):
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float | np.floating) else value


def contrasts(result: ExperimentResult) -> Iterator[tuple[Verdict, Outcome]]:
    for verdict in judged(result):
        for outcome in verdict.outcomes:
            yield verdict, outcome


# --- numbers as text --------------------------------------------------------------------------------------------------


def signed(number: float | None, unit: str = "") -> str:
    if number is None or pd.isna(number):
        return ""
    return f"{number:+.{decimals(unit)}f}" if np.isfinite(number) else ("+∞" if number > 0 else "-∞")


def interval_text(interval: Interval | None, unit: str = "") -> str:
    """Return mean [low, high]."""
    return f"{signed(interval.estimate, unit)} {ends(interval, unit)}" if interval else ""


def ends(interval: Interval | None, unit: str = "") -> str:
    return f"[{signed(interval.low, unit)}, {signed(interval.high, unit)}]" if interval else ""


def p_value(p: float | None) -> str:
    if p is None:
        return ""
    return f"{p:.2g}" if p >= 0.001 else "<0.001"


def markdown(frame: pd.DataFrame) -> str:
    """Return a table in Markdown. Not padded: a cell may hold sentences."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
            t, boot = outcome.interval, outcome.second
            lines.append(
                {
                    **{name: getattr(verdict, name) for name in ("experiment", "claim", "kind", "claimed", "metric")},
                    **{name: getattr(verdict, name) for name in ("unit", "margin")},
                    "contrast": outcome.label,
                    "where": outcome.where,
                    "n": outcome.pairs,
                    "mean": t and t.estimate,
                    "low": t and t.low,
                    "high": t and t.high,
                    "bootstrap_low": boot and boot.low,
                    "bootstrap_high": boot and boot.high,
                    **{name: getattr(outcome, name) for name in ("median", "iqm", "p", "p_holm", "p_margin")},
                    "diverged": outcome.diverged,
                    "verdict": outcome.verdict,
                    "why": outcome.why,
                    "run_ids": " ".join(outcome.run_ids),
                }
            )
    return pd.DataFrame([{key: rounded(value) for key, value in line.items()} for line in lines])


def difference_line(outcome: Outcome, unit: str) -> dict[str, str]:
    """Return a contrast in the report's columns."""
    return {
        "contrast": outcome.label,
        "where": outcome.where,
        "n": str(outcome.pairs),
        "mean [95 %]": interval_text(outcome.interval, unit),
        "verdict": outcome.verdict,
        "bootstrap": ends(outcome.second, unit),
        "median": signed(outcome.median, unit),
        "IQM": signed(outcome.iqm, unit),
        "p": p_value(outcome.p),
        "p Holm": p_value(outcome.p_holm),
        "p margin": p_value(outcome.p_margin),
        "diverged": str(outcome.diverged),
    }


def difference_table(verdict: Verdict) -> pd.DataFrame:
    """Return a claim's contrasts, without the columns that its kind leaves empty."""
    frame = pd.DataFrame([difference_line(outcome, verdict.unit) for outcome in verdict.outcomes])
    return frame.loc[:, (frame != "").any()]


# --- cells ------------------------------------------------------------------------------------------------------------


def cells(result: ExperimentResult) -> pd.DataFrame:
    """Return a row for each cell, for cells.csv: learning rate, and the deciding metric over its seeds."""
    experiment, lines = result.experiment, []
    for cell, rows in each_cell(result.rows, experiment):
        metric, _ = metric_of(rows, experiment)
        metrics = values(rows, metric, {}).dropna()
        some = len(metrics) > 0
        lines.append(
            {
                "experiment": experiment.name,
                **cell,
                "lr": rows["lr"].iloc[0],
                "metric": metric,
                "n": len(metrics),
                "median": metrics.median() if some else None,
                "min": metrics.min() if some else None,
                "max": metrics.max() if some else None,
                "iqm": iqm(metrics) if some else None,
                "diverged": int((rows["status"] == "diverged").sum()),
                "seconds": rows["seconds"].median() if "seconds" in rows else None,
            }
        )
    return pd.DataFrame([{key: rounded(value) for key, value in line.items()} for line in lines])


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
        spread = f"{row['median']:.3f} [{row['min']:.3f}, {row['max']:.3f}]" if row["n"] else "-"
        lines.append(
            {
                **{column: str(row[column]) for column in cell_columns(experiment.axes) if column in row},
                "learning rate": f"{row['lr']:g}",
                "metric": row["metric"],
                "median [range]": spread,
                "IQM": f"{row['iqm']:.3f}" if row["n"] else "-",
                "n": str(row["n"]),
                "diverged": str(row["diverged"]),
                "seconds": "-" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
            }
        )
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
