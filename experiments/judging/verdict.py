"""What judging gives: the outcome of each contrast, and the verdict on the claim that needs all of them."""

from dataclasses import asdict, dataclass, replace

from experiments.judging.intervals import Interval
from experiments.judging.numbers import interval_text

REPRODUCED, MIXED, CONTRADICTED, NOT_RESOLVED = "reproduced", "mixed", "contradicted", "not resolved"
VERDICTS = (REPRODUCED, MIXED, CONTRADICTED, NOT_RESOLVED)  # of a claim; a contrast is never mixed


@dataclass(frozen=True)
class Outcome:
    """One contrast: what was compared, what came out, and the runs behind it."""

    label: str  # LN - NONE
    where: str  # what both sides share: lstm, batch 2; "" where they share nothing
    verdict: str
    why: str
    pairs: int
    diverged: int
    run_ids: list[str]
    interval: Interval | None = None  # of d by Student's t, of a ratio by Fieller
    bootstrap: Interval | None = None  # of d by bootstrap-t
    median: float | None = None
    iqm: float | None = None  # interquartile mean
    differences: list[float] | None = None  # d by seed
    p: float | None = None  # of d = 0, two-sided, before Holm's correction
    p_holm: float | None = None  # the same after Holm's correction over the claim's contrasts
    p_margin: float | None = None  # of |d| >= margin (claimed not_higher: of d >= margin), after Holm's correction


@dataclass(frozen=True)
class Compared:
    """The runs of one contrast, before it is judged."""

    label: str
    where: str
    pairs: int
    diverged: int
    run_ids: list[str]
    unfit: str  # why no verdict may rest on these runs; "" where nothing speaks against it

    def outcome(self, verdict: str, why: str, interval: Interval | None = None) -> Outcome:
        """Return the contrast with its verdict: not resolved where the runs are unfit for one."""
        if self.unfit:
            verdict, why = NOT_RESOLVED, self.unfit
        return Outcome(self.label, self.where, verdict, why, self.pairs, self.diverged, self.run_ids, interval)

    def incomplete(self, planned: int) -> Outcome | None:
        """Return an unresolved outcome when pairs are missing, None when there are as many as planned.

        A mean over the surviving runs would flatter the cell whose run diverged.
        """
        missing = planned - self.pairs
        if not missing:
            return None
        why = f"{missing} of {planned} pairs lack a result ({self.diverged} runs diverged)"
        return replace(self, unfit="").outcome(NOT_RESOLVED, why)


@dataclass(frozen=True)
class Verdict:
    """One claim, with everything that the report prints."""

    experiment: str
    claim: str
    statement: str
    stated: str | None  # None: a question of ours
    identity: bool  # true by construction, where a layer does what its equation says
    kind: str
    claimed: str
    metric: str
    unit: str
    margin: float
    margin_from: str
    verdict: str
    why: str
    outcomes: list[Outcome]

    def as_dict(self) -> dict:
        return asdict(self)


def combined(outcomes: list[Outcome]) -> str:
    """Return the verdict on a claim that is about all of its contrasts.

    Reproduced needs every one. Contradicted needs one, and none that is reproduced: a claim of which a part holds and a
    part does not is mixed.
    """
    verdicts = {outcome.verdict for outcome in outcomes}
    if CONTRADICTED in verdicts:
        return MIXED if REPRODUCED in verdicts else CONTRADICTED
    return NOT_RESOLVED if NOT_RESOLVED in verdicts else REPRODUCED


def tally(outcomes: list[Outcome]) -> str:
    """Return how many contrasts came out how: 2 of 3 contrasts reproduced, 1 contradicted."""
    verdicts = [outcome.verdict for outcome in outcomes]
    counts = [(verdicts.count(verdict), verdict) for verdict in VERDICTS if verdict in verdicts]
    (first, verdict), *rest = counts
    parts = [f"{first} of {len(outcomes)} contrasts {verdict}", *(f"{count} {verdict}" for count, verdict in rest)]
    return ", ".join(parts)


def reason(outcomes: list[Outcome], unit: str) -> str:
    """Return the sentence that says why: of one contrast its reason, of several the numbers and verdict of each."""
    if len(outcomes) == 1:
        return f"{outcomes[0].label}: {outcomes[0].why}"
    parts = []
    for outcome in outcomes:
        where = f" ({outcome.where})" if outcome.where not in ("", outcome.label) else ""
        numbers = f"{interval_text(outcome.interval, unit)} {outcome.verdict}".strip()
        parts.append(f"{outcome.label}{where} {numbers}")
    return f"{tally(outcomes)}: {'; '.join(parts)} ({unit})"
