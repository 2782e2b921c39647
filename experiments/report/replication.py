"""The same rules on other seeds or another processor: which verdicts are the same.

A replication is a report of its own, beside the one it repeats: results/reference/quick_seeds40 repeats
results/reference/quick. scripts/replicate.sh makes one.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.config.errors import first_line
from experiments.judging.evidence import ExperimentResult
from experiments.judging.verdict import CONTRADICTED, REPRODUCED
from experiments.report.tables import has_runs

Verdicts = Mapping[tuple[str, str], str]  # of (experiment, claim)


@dataclass(frozen=True)
class Replication:
    """Verdicts here and there, of the claims that both have. there: what was repeated, in words."""

    there: str
    pairs: dict[tuple[str, str], tuple[str, str]]
    folder: str = ""

    @property
    def differing(self) -> dict[tuple[str, str], tuple[str, str]]:
        return {claim: pair for claim, pair in self.pairs.items() if pair[0] != pair[1]}

    @property
    def reversed(self) -> list[tuple[str, str]]:
        """The claims that are reproduced in one and contradicted in the other."""
        return [claim for claim, pair in self.pairs.items() if set(pair) == {REPRODUCED, CONTRADICTED}]

    def counts(self) -> str:
        """Return how many verdicts are the same, and how many reversed."""
        same = len(self.pairs) - len(self.differing)
        return f"{self.there}: {same} of {len(self.pairs)} verdicts are the same, {len(self.reversed)} reversed"

    def sentence(self) -> str:
        """Return the counts, and which verdicts differ."""
        details = [
            f"{name}/{claim} (here {here}, there {there})" for (name, claim), (here, there) in self.differing.items()
        ]
        differ = f"; these differ: {', '.join(details)}" if details else ""
        return f"{self.counts()}{differ}."


def of(results: list[ExperimentResult], reference: list[ExperimentResult], there: str) -> Replication:
    """Return how the verdicts of two sets of results agree."""
    return compare(verdicts_of(results), verdicts_of(reference), there)


def compare(here: Verdicts, there: Verdicts, name: str, folder: str = "") -> Replication:
    return Replication(name, {claim: (here[claim], there[claim]) for claim in here if claim in there}, folder)


def verdicts_of(results: list[ExperimentResult]) -> Verdicts:
    claims = [verdict.as_dict() for result in results for verdict in result.verdicts]
    return {(claim["experiment"], claim["claim"]): claim["verdict"] for claim in claims if has_runs(claim)}


def beside(folder: Path, here: Verdicts) -> list[Replication]:
    """Return the replications that lie beside a report, in the order of their names."""
    found = []
    for other in sorted(folder.parent.glob(f"{folder.name}_*/claims.json")):
        try:
            claims = json.loads(other.read_text(encoding="utf-8"))["claims"]
            there = {(claim["experiment"], claim["claim"]): claim["verdict"] for claim in claims if has_runs(claim)}
            provenance = dict(json.loads(other.with_name("provenance.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:  # another's, or damaged
            print(f"{other.parent} is left out, it holds no report ({first_line(error)})", file=sys.stderr)
            continue
        if "first_seed" not in provenance:  # of another kind: a copy that was made before replications were
            continue
        name = ", ".join([f"seeds from {provenance['first_seed']} on", *provenance.get("processor", [])])
        found.append(compare(here, there, name, other.parent.name))
    return found
