"""The generated parts of README.md (the findings) and results/README.md (every verdict), from the committed results.

Both read the claims.json and provenance.json of each profile below results/reference, so that they cannot contradict
the runs. The parts stand between markers; everything else on the pages is written by hand.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.config.errors import ConfigError
from experiments.config.paths import ROOT
from experiments.judging.evidence import REFERENCE
from experiments.report.tables import markdown, signed
from experiments.runs.progress import format_duration

FINDINGS_START, FINDINGS_END = "<!-- findings: written by experiments.report -->", "<!-- end of findings -->"
VERDICTS_START, VERDICTS_END = "<!-- verdicts: written by experiments.report -->", "<!-- end of verdicts -->"
PROFILES = ("quick", "standard", "full")  # from left to right
MARKS = {"reproduced": "✓", "contradicted": "✗", "not resolved": "?"}
NAMES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "cnn": "plain CNN", "resnet20": "ResNet-20"}


@dataclass(frozen=True)
class Answer:
    """The answer that some claims of one experiment give together, by their common verdict.

    `{where}` in a text becomes the networks whose contrasts have that verdict.
    """

    experiment: str
    claims: tuple[str, ...]
    reproduced: str
    contradicted: str
    not_resolved: str = "open"

    def text(self, verdict: str) -> str:
        return {"reproduced": self.reproduced, "contradicted": self.contradicted}.get(verdict, self.not_resolved)


@dataclass(frozen=True)
class Finding:
    """A row of the README: a question, and the answers that settle it."""

    question: str
    answers: tuple[Answer, ...]


FINDINGS = (
    Finding(
        "Does LN lower the loss of a recurrent language model?",
        (Answer("recurrent_gain", ("ln_helps_recurrent",), "yes", "no, higher in the {where}"),),
    ),
    Finding(
        "Does recurrent BN break down at batch 4?",
        (
            Answer(
                "recurrent_batch_size",
                ("bn_hurts_recurrent_at_4", "bn_needs_batch_recurrent"),
                "yes, worse than no normalisation",
                "no, not in the {where}",
            ),
        ),
    ),
    Finding(
        "Is the order in a CNN at a large batch BN, GN, LN?",
        (
            Answer(
                "conv_gain",
                ("ln_loses_to_bn_conv", "gn_loses_to_bn_conv", "gn_beats_ln_conv"),
                "yes, BN before GN before LN",
                "no, not in the {where}",
            ),
        ),
    ),
    Finding(
        "Are 8 groups better than one (LN) or all (IN)?",
        (Answer("groups", ("gn_beats_its_ends",), "yes, better than both", "no, worse than one of them"),),
    ),
    Finding(
        "Does the paper's table 1 of invariances hold?",
        (Answer("invariance", ("table1_bn", "table1_wn", "table1_ln"), "yes, in every entry", "no, an entry fails"),),
    ),
    Finding(
        "Which initial gain, and where in the LSTM?",
        (
            Answer(
                "gain_init",
                ("bn_wants_small_gain", "ln_wants_gain_one"),
                "0.1 for BN, 1 for LN",
                "not 0.1 for BN and 1 for LN",
                "gain open",
            ),
            Answer(
                "placement",
                ("inside_beats_outside",),
                "LN inside the recurrence",
                "LN on the layer's output",
                "placement open",
            ),
        ),
    ),
)


# --- the pages --------------------------------------------------------------------------------------------------------


def put_into_readme() -> None:
    """Write the findings into README.md and the verdicts into results/README.md."""
    replace_block(ROOT / "README.md", FINDINGS_START, FINDINGS_END, findings(REFERENCE))
    replace_block(ROOT / "results" / "README.md", VERDICTS_START, VERDICTS_END, verdicts(REFERENCE))


def replace_block(path: Path, start: str, end: str, text: str) -> None:
    """Replace what stands between two markers of a page by `text`. Raises ConfigError if a marker is missing."""
    before, _, rest = path.read_text().partition(start)
    _, ended, after = rest.partition(end)
    if not ended:
        raise ConfigError(f"{path.name} lacks {start!r} or {end!r}; put both lines where the generated part belongs")
    path.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")


# --- README.md --------------------------------------------------------------------------------------------------------


def findings(reference: Path) -> str:
    """Return the table of FINDINGS, the counts and a figure; the answers are those of the largest profile."""
    claims = {profile: claims_of(reference / profile) for profile in committed_profiles(reference)}
    largest = list(claims)[-1]
    rows = []
    for finding in FINDINGS:
        row = {"question": finding.question}
        row["answer"] = "; ".join(answer_text(answer, claims[largest]) for answer in finding.answers)
        for profile, by_id in claims.items():
            row[profile] = " ".join(MARKS[common_verdict(chosen(answer, by_id))] for answer in finding.answers)
        row["evidence"] = ", ".join(
            f"[{answer.experiment}](results/reference/{largest}/claims.md#{answer.experiment})"
            for answer in finding.answers
        )
        rows.append(row)
    figure = f"![What each normaliser does in {largest}](results/reference/{largest}/figures/summary.svg)"
    totals = [
        f"- `{profile}`: {counts(by_id)}, {provenance_of(reference / profile)['runs']} runs."
        for profile, by_id in claims.items()
    ]
    return "\n\n".join([markdown(pd.DataFrame(rows)), "\n".join(totals), figure])


def answer_text(answer: Answer, by_id: dict[tuple[str, str], dict]) -> str:
    """Return the text for the common verdict of an answer's claims."""
    claims = chosen(answer, by_id)
    verdict = common_verdict(claims)
    contrasts = [outcome for claim in claims for outcome in claim["outcomes"] if outcome["verdict"] == verdict]
    networks = dict.fromkeys(outcome["where"].partition(",")[0] for outcome in contrasts)
    return answer.text(verdict).format(where=" and ".join(NAMES.get(name, name) for name in networks))


def chosen(answer: Answer, by_id: dict[tuple[str, str], dict]) -> list[dict]:
    return [by_id[answer.experiment, claim] for claim in answer.claims]


def common_verdict(claims: Sequence[dict]) -> str:
    """Return the verdict on several claims: reproduced if all are, contradicted if one is, else not resolved."""
    verdicts = {claim["verdict"] for claim in claims}
    return next((verdict for verdict in ("contradicted", "not resolved") if verdict in verdicts), "reproduced")


# --- results/README.md ------------------------------------------------------------------------------------------------


def verdicts(reference: Path) -> str:
    """Return a line for each profile, the table of all claims, and the figures."""
    claims = {profile: claims_of(reference / profile) for profile in committed_profiles(reference)}
    flipped = {profile: flips(reference / profile, by_id) for profile, by_id in claims.items()}
    statements = {key: claim for profile in reversed(claims) for key, claim in claims[profile].items()}
    rows = []
    for key, claim in statements.items():
        row = {"claim": f"{claim['statement']} <sub>{claim['experiment']}, {claim['unit']}</sub>"}
        row |= {profile: entry(by_id.get(key), key in flipped[profile]) for profile, by_id in claims.items()}
        rows.append(row)
    lines = [total(reference / profile, by_id) for profile, by_id in claims.items()]
    lines += [replication(reference / profile, by_id) for profile, by_id in claims.items() if flipped[profile]]
    figures = [
        f"![What each normaliser does in {profile}](reference/{profile}/figures/summary.svg)" for profile in claims
    ]
    return "\n\n".join(["\n".join(lines), markdown(pd.DataFrame(rows)), *figures])


def total(folder: Path, by_id: dict[tuple[str, str], dict]) -> str:
    """Return how many claims of a profile have each verdict, and what its runs took."""
    provenance = provenance_of(folder)
    cost = (
        f"{provenance['runs']} runs, {provenance['diverged']} diverged, {format_duration(provenance['core_seconds'])}"
    )
    return f"- [`{folder.name}`](reference/{folder.name}/claims.md): {counts(by_id)} ({cost} of one core)."


def replication(folder: Path, by_id: dict[tuple[str, str], dict]) -> str:
    """Return which verdicts differ when the profile is run once more on another processor."""
    other = elsewhere(folder)
    flipped = flips(folder, by_id)
    details = [
        f"{experiment}/{claim} (here {here}, there {there})" for (experiment, claim), (here, there) in flipped.items()
    ]
    differing = f"; these differ (†): {', '.join(details)}" if details else ""
    processors = ", ".join(provenance_of(other)["processor"])
    return (
        f"- [`{folder.name}` once more, on another processor](reference/{other.name}/claims.md) ({processors}): "
        f"{len(by_id) - len(flipped)} of {len(by_id)} verdicts are the same{differing}."
    )


def elsewhere(folder: Path) -> Path:
    """Return the folder of the same profile, run on another processor."""
    return folder.with_name(f"{folder.name}_elsewhere")


def flips(folder: Path, by_id: dict[tuple[str, str], dict]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the verdicts, here and on another processor, of the claims where they differ."""
    if not elsewhere(folder).exists():
        return {}
    other = claims_of(elsewhere(folder))
    pairs = {key: (claim["verdict"], other[key]["verdict"]) for key, claim in by_id.items()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def entry(claim: dict | None, flips_elsewhere: bool = False) -> str:
    """Return the verdict with its deciding contrast, and with the number of contrasts if there are several."""
    if claim is None:
        return ""
    verdict = f"{MARKS[claim['verdict']]} **{claim['verdict']}**{' †' if flips_elsewhere else ''}"
    with_interval = [outcome for outcome in claim["outcomes"] if outcome["interval"]]
    if not with_interval:
        return verdict
    outcome = deciding(claim["verdict"], with_interval)
    interval = outcome["interval"]
    numbers = f"{signed(interval['estimate'])} [{signed(interval['low'])}, {signed(interval['high'])}]"
    contrast = f"{outcome['where'] or outcome['label']}, one of {len(claim['outcomes'])}"
    return f"{verdict}<br>{numbers}, n = {outcome['pairs']}" + (f" ({contrast})" if len(claim["outcomes"]) > 1 else "")


def deciding(verdict: str, outcomes: list[dict]) -> dict:
    """Return the contrast that a verdict depends on, of those with that verdict.

    A claim is contradicted by one contrast, so the clearest; it is reproduced only by all, so the least clear.
    """
    same = [outcome for outcome in outcomes if outcome["verdict"] == verdict] or outcomes

    def clearness(outcome: dict) -> float:
        interval = outcome["interval"]
        if interval["low"] is None or interval["high"] is None:
            return 0.0
        return abs(interval["estimate"]) / (interval["high"] - interval["low"] or math.inf)

    return (max if verdict == "contradicted" else min)(same, key=clearness)


# --- both pages -------------------------------------------------------------------------------------------------------


def committed_profiles(reference: Path) -> list[str]:
    return [profile for profile in PROFILES if (reference / profile / "claims.json").exists()]


def claims_of(folder: Path) -> dict[tuple[str, str], dict]:
    """Return the claims of a profile by experiment and id, in the order of its claims.json."""
    claims = json.loads((folder / "claims.json").read_text())["claims"]
    return {(claim["experiment"], claim["claim"]): claim for claim in claims}


def provenance_of(folder: Path) -> dict:
    return json.loads((folder / "provenance.json").read_text())


def counts(by_id: dict[tuple[str, str], dict]) -> str:
    """Return how many claims have each verdict, in words."""
    each = [claim["verdict"] for claim in by_id.values()]
    kinds = ", ".join(f"{each.count(verdict)} {verdict}" for verdict in MARKS)
    return f"{kinds}, of {len(each)} claims"
