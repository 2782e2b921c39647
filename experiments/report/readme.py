"""The verdicts in README.md: a line a claim, a column for each profile whose results are committed."""

import json
import math
from pathlib import Path

import pandas as pd

from experiments.config.errors import ConfigError
from experiments.config.paths import ROOT
from experiments.judging.evidence import REFERENCE
from experiments.judging.verdict import CONTRADICTED, NOT_RESOLVED, REPRODUCED
from experiments.report.tables import markdown, signed
from experiments.runs.progress import duration

START, END = "<!-- verdicts: written by experiments.report -->", "<!-- end of verdicts -->"
PROFILES = ("quick", "standard", "full")  # from left to right


def put_into_readme() -> None:
    """Replace what stands between the README's markers. Raises ConfigError when it has none."""
    path = ROOT / "README.md"
    before, found, rest = path.read_text().partition(START)
    if not found or END not in rest:
        raise ConfigError(f"README.md lacks {START!r} or {END!r}; put both lines where the table belongs")
    path.write_text(f"{before}{START}\n\n{verdicts(REFERENCE)}\n\n{END}{rest.partition(END)[2]}")


def verdicts(reference: Path) -> str:
    """The text for the README, from the claims.json and provenance.json of the profiles below a folder."""
    there = [profile for profile in PROFILES if (reference / profile / "claims.json").exists()]
    claims = {name: json.loads((reference / name / "claims.json").read_text())["claims"] for name in there}
    columns = {name: {(c["experiment"], c["claim"]): c for c in claims[name]} for name in there}
    lines = [
        {
            "claim": f"{claim['statement']} <sub>{claim['experiment']}, {claim['unit']}</sub>",
            **{name: entry(columns[name].get(key)) for name in there},
        }
        for key, claim in {key: claim for name in reversed(there) for key, claim in columns[name].items()}.items()
    ]
    totals = [total(reference / name, name, claims[name]) for name in there]
    totals += [again(reference / name, claims[name]) for name in there if (reference / f"{name}_elsewhere").exists()]
    figures = [f"![What each normaliser does, {name}](results/reference/{name}/figures/summary.svg)" for name in there]
    return "\n\n".join(["\n".join(totals), markdown(pd.DataFrame(lines)), *figures])


def total(folder: Path, name: str, claims: list[dict]) -> str:
    """What a profile took, and how many of its claims came out how."""
    origin = json.loads((folder / "provenance.json").read_text())
    found = [claim["verdict"] for claim in claims]
    kinds = ", ".join(f"{found.count(kind)} {kind}" for kind in (REPRODUCED, CONTRADICTED, NOT_RESOLVED))
    cost = (
        f"{origin['runs']} runs, {origin['diverged']} of them diverged, {duration(origin['core_seconds'])} of one core"
    )
    return f"- [`{name}`](results/reference/{name}/claims.md): {kinds}, of {len(claims)} claims ({cost})."


def again(folder: Path, claims: list[dict]) -> str:
    """Which verdicts came out otherwise when the profile was run once more, on another processor."""
    other = folder.with_name(f"{folder.name}_elsewhere")
    found = {(c["experiment"], c["claim"]): c for c in json.loads((other / "claims.json").read_text())["claims"]}
    where = ", ".join(json.loads((other / "provenance.json").read_text())["processor"])
    moved = []
    for claim in claims:
        there = found[claim["experiment"], claim["claim"]]["verdict"]
        if there != claim["verdict"]:
            moved.append(f"{claim['experiment']}/{claim['claim']} (here {claim['verdict']}, there {there})")
    told = f"; the others: {', '.join(moved)}" if moved else ""
    return (
        f"- [`{folder.name}` once more, on another processor](results/reference/{other.name}/claims.md) ({where}): "
        f"{len(claims) - len(moved)} of {len(claims)} verdicts are the same{told}."
    )


def entry(claim: dict | None) -> str:
    """The verdict, with the contrast that it hangs on: of several, how many and the one that decides."""
    if claim is None:
        return ""
    with_interval = [outcome for outcome in claim["outcomes"] if outcome["interval"]]
    if not with_interval:
        return f"**{claim['verdict']}**"
    one = deciding(claim["verdict"], with_interval)
    numbers = one["interval"]
    told = f"{signed(numbers['estimate'])} [{signed(numbers['low'])}, {signed(numbers['high'])}], n = {one['pairs']}"
    several = (
        f" ({one['where'] or one['label']}, one of {len(claim['outcomes'])})" if len(claim["outcomes"]) > 1 else ""
    )
    return f"**{claim['verdict']}**<br>{told}{several}"


def deciding(verdict: str, outcomes: list[dict]) -> dict:
    """Of the contrasts that came out as the claim did, the clearest against it, or else the least clear.

    A claim is contradicted by one contrast and reproduced only by all.
    """
    same = [outcome for outcome in outcomes if outcome["verdict"] == verdict] or outcomes

    def clearness(outcome: dict) -> float:
        interval = outcome["interval"]
        if interval["low"] is None or interval["high"] is None:
            return 0.0
        return abs(interval["estimate"]) / (interval["high"] - interval["low"] or math.inf)

    return (max if verdict == CONTRADICTED else min)(same, key=clearness)
