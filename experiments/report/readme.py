"""The generated parts of README.md (the findings) and results/README.md (every verdict), from the committed results.

Both read the claims.json and provenance.json of each profile below results/reference, so that they cannot contradict
the runs. The parts stand between markers; everything else on the pages is written by hand.
"""

import json
import math
import re
from pathlib import Path

import pandas as pd

from experiments.config.errors import ConfigError
from experiments.config.paths import REFERENCE, ROOT
from experiments.judging.evidence import GRADIENTS
from experiments.judging.numbers import signed
from experiments.report.answers import answers, listed
from experiments.report.columns import markdown
from experiments.report.names import NETWORKS
from experiments.report.replication import Replication, beside, empirical
from experiments.report.style import norms_of
from experiments.report.tables import SIGN, counts, has_runs
from experiments.runs.progress import format_duration

FINDINGS_START, FINDINGS_END = "<!-- findings: written by experiments.report -->", "<!-- end of findings -->"
VERDICTS_START, VERDICTS_END = "<!-- verdicts: written by experiments.report -->", "<!-- end of verdicts -->"
PROFILES = ("quick", "standard", "full")  # from left to right

# --- the pages --------------------------------------------------------------------------------------------------------


def put_into_readme() -> None:
    """Write the findings into README.md and the verdicts into results/README.md."""
    replace_block(ROOT / "README.md", FINDINGS_START, FINDINGS_END, findings(REFERENCE))
    replace_block(ROOT / "results" / "README.md", VERDICTS_START, VERDICTS_END, verdicts(REFERENCE))


def replace_block(path: Path, start: str, end: str, text: str) -> None:
    """Replace what stands between two markers of a page by `text`. Raises ConfigError if a marker is missing."""
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    _, ended, after = rest.partition(end)
    if not ended:
        raise ConfigError(f"{path.name} lacks {start!r} or {end!r}; put both lines where the generated part belongs")
    path.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


# --- README.md --------------------------------------------------------------------------------------------------------


def findings(reference: Path) -> str:
    """Return the answers, shortened, each of the largest profile that has runs for it; counts, figures."""
    claims = {profile: claims_of(reference / profile) for profile in committed_profiles(reference)}
    repeated = {profile: replications(reference / profile, by_id) for profile, by_id in claims.items()}
    largest = list(claims)[-1]
    run: dict[tuple[str, str], dict] = {}
    for profile, by_id in claims.items():
        of = {} if profile == largest else {"profile": profile}
        unlike = {key for one in repeated[profile] for key in one.differing}
        run |= {key: {**claim, **of, "flips": key in unlike} for key, claim in by_id.items() if has_runs(claim)}
    brief = [(about, shortened(text)) for about, text in answers(list(run.values()))]
    sentences = [f"{n}. **{about}:** {text}" for n, (about, text) in enumerate(brief, 1)]
    totals = []
    for profile, by_id in claims.items():
        runs = provenance_of(reference / profile)["runs"]
        totals.append(f"- [`{profile}`](results/reference/{profile}/claims.md), {runs} runs: {counts(by_id.values())}")
        totals += [
            f"  - [Replication](results/reference/{one.folder}/claims.md), {one.counts()}." for one in repeated[profile]
        ]
    return "\n\n".join(["\n".join(sentences), "\n".join(totals), *pictures(reference, largest, "results/reference")])


def shortened(text: str) -> str:
    """Return an answer without its intervals, with the short names of the units that README.md explains."""
    without_intervals = re.sub(r" \[[^]]*\]", "", text)
    return without_intervals.replace("bits per character", "bpc").replace("percentage points", "points")


def pictures(reference: Path, profile: str, link: str) -> list[str]:
    """Return a profile's figures: the gain of each normaliser, and gradients through time where they were measured."""
    named = {
        "Gain of each normaliser over none": "summary",
        "Norm of the gradient with respect to earlier hidden states": "recurrent_gain_gradients",
    }
    return [
        f"![{text}, {profile}]({link}/{profile}/figures/{name}.svg)"
        for text, name in named.items()
        if (reference / profile / "figures" / f"{name}.svg").exists()
    ]


def replications(folder: Path, by_id: dict[tuple[str, str], dict]) -> list[Replication]:
    return beside(folder, empirical(by_id.values()))


# --- results/README.md ------------------------------------------------------------------------------------------------


def verdicts(reference: Path) -> str:
    """Return a line for each profile, the table of all claims, and the figures."""
    claims = {profile: claims_of(reference / profile) for profile in committed_profiles(reference)}
    repeated = {profile: replications(reference / profile, by_id) for profile, by_id in claims.items()}
    statements = {key: claim for profile in reversed(claims) for key, claim in claims[profile].items()}
    rows = []
    for key, claim in statements.items():
        origin = claim["stated"] or "a question of our own"
        row = {"claim": f"{claim['statement']} <sub>{claim['experiment']}, {claim['unit']}; {origin}</sub>"}
        for profile, by_id in claims.items():
            flips = any(key in one.differing for one in repeated[profile])
            row[profile] = entry(by_id.get(key), flips)
        rows.append(row)
    lines = []
    for profile, by_id in claims.items():
        lines.append(total(reference / profile, by_id))
        lines += [f"  - [Replication](reference/{one.folder}/claims.md), {one.sentence()}" for one in repeated[profile]]
    below = [
        part for profile in claims for part in (*pictures(reference, profile, "reference"), reach(reference / profile))
    ]
    return "\n\n".join(["\n".join(lines), markdown(pd.DataFrame(rows)), *filter(None, below)])


def reach(folder: Path) -> str:
    """Return a table of gradients through time, their norms at the nearest and the farthest step; "" without any."""
    if not (folder / GRADIENTS).exists():
        return ""
    rows = pd.read_csv(folder / "runs.csv", usecols=["run_id", "model", "norm"])
    gradients = pd.read_csv(folder / GRADIENTS).rename(columns={"norm": "gradient"}).merge(rows, on="run_id")
    near, far = gradients["lag"].min(), gradients["lag"].max()
    medians = gradients.groupby(["model", "moment", "norm", "lag"], sort=False)["gradient"].median().unstack("lag")
    texts = medians.apply(lambda of: f"{of[near]:.2g} → {of[far]:.2g}", axis=1).unstack("norm")
    texts = texts.replace(r"→ 0$", "→ underflow", regex=True)
    lines = []
    for model, moment in texts.index:
        by_norm = {norm.upper(): texts[norm][model, moment] for norm in norms_of(texts.columns)}
        lines.append({"network": NETWORKS.get(model, model), "moment": moment, **by_norm})
    title = f"Norm of the gradient {near} → {far} steps before the last, median over seeds ({folder.name}):"
    compared = farther(medians[far].unstack("norm")) if {"ln", "none"} <= set(texts) else ""
    return "\n\n".join(filter(None, [title, markdown(pd.DataFrame(lines).fillna("-")), compared]))


def farther(gradients: pd.DataFrame) -> str:
    """Return where LN's gradient from the farthest step is larger than without a normaliser, and where smaller.

    gradients: the medians, a row for each model and moment, a column for each normaliser.
    """
    parts = []
    for moment, of_moment in gradients.groupby("moment", sort=False):
        larger = of_moment["ln"] > of_moment["none"]
        for what, chosen in (("larger", larger), ("smaller", ~larger)):
            networks = [NETWORKS.get(model, model) for model, _ in of_moment.index[chosen]]
            parts += [f"{moment} {what} in the {listed(networks)}"] if networks else []
    return f"From the farthest step LN's gradient is, beside that without a normaliser, {'; '.join(parts)}."


def total(folder: Path, by_id: dict[tuple[str, str], dict]) -> str:
    """Return how many claims of a profile have each verdict, and what its runs took."""
    provenance = provenance_of(folder)
    cost = (
        f"{provenance['runs']} runs, {provenance['diverged']} diverged, {format_duration(provenance['core_seconds'])}"
    )
    where = ", ".join(provenance.get("processor", ["an unknown processor"]))
    line = counts(by_id.values())
    return f"- [`{folder.name}`](reference/{folder.name}/claims.md) ({cost} of one core, {where}): {line}"


def entry(claim: dict | None, flips: bool = False) -> str:
    """Return the verdict with its deciding contrast, and with the number of contrasts if there are several."""
    if claim is None:
        return ""
    if not has_runs(claim):
        return "not run"
    verdict = f"{SIGN[claim['verdict']]} **{claim['verdict']}**{' †' if flips else ''}"
    with_interval = [outcome for outcome in claim["outcomes"] if outcome["interval"]]
    if not with_interval:
        return verdict
    outcome = deciding(claim["verdict"], with_interval)
    interval = outcome["interval"]
    mean, low, high = (signed(interval[name], claim["unit"]) for name in ("estimate", "low", "high"))
    numbers = f"{mean} [{low}, {high}]"
    contrast = f"{outcome['where'] or outcome['label']}, one of {len(claim['outcomes'])}"
    return f"{verdict}<br>{numbers}, n = {outcome['pairs']}" + (f" ({contrast})" if len(claim["outcomes"]) > 1 else "")


def deciding(verdict: str, outcomes: list[dict]) -> dict:
    """Return the contrast that a verdict depends on, of those with that verdict.

    A claim is contradicted by one contrast, so the clearest; it is reproduced only by all, so the least clear. A mixed
    one shows its clearest contrast of all.
    """
    same = [outcome for outcome in outcomes if outcome["verdict"] == verdict] or outcomes

    def clearness(outcome: dict) -> float:
        interval = outcome["interval"]
        if interval["low"] is None or interval["high"] is None:
            return 0.0
        return abs(interval["estimate"]) / (interval["high"] - interval["low"] or math.inf)

    return (max if verdict in ("contradicted", "mixed") else min)(same, key=clearness)


# --- both pages -------------------------------------------------------------------------------------------------------


def committed_profiles(reference: Path) -> list[str]:
    return [profile for profile in PROFILES if (reference / profile / "claims.json").exists()]


def claims_of(folder: Path) -> dict[tuple[str, str], dict]:
    """Return the claims of a profile by experiment and id, in the order of its claims.json."""
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]
    return {(claim["experiment"], claim["claim"]): claim for claim in claims}


def provenance_of(folder: Path) -> dict:
    return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
