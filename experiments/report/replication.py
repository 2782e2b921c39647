"""The same rules on other seeds or another processor: which verdicts are the same.

A replication is a report of its own, beside the one it repeats: results/reference/quick_seeds40 repeats
results/reference/quick. scripts/replicate.sh makes one.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.config.errors import first_line
from experiments.judging.evidence import ExperimentResult
from experiments.judging.verdict import CONTRADICTED, REPRODUCED
from experiments.report.tables import is_empirical

Verdicts = Mapping[tuple[str, str], str]  # of (experiment, claim)


@dataclass(frozen=True)
class Replication:
    """Verdicts here and there, of the claims that both have; not of identities, which cannot come out otherwise.

    what: seeds and processor, in words. sides: what is here and what is there.
    """

    what: str
    pairs: dict[tuple[str, str], tuple[str, str]]
    folder: str = ""
    sides: tuple[str, str] = ("here", "there")

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
        return (
            f"{self.what}: {same} of {len(self.pairs)} empirical verdicts are the same, {len(self.reversed)} reversed"
        )

    def sentence(self) -> str:
        """Return the counts, and which verdicts differ."""
        details = [
            f"{name}/{claim} ({', '.join(f'{side} {verdict}' for side, verdict in zip(self.sides, pair, strict=True))})"
            for (name, claim), pair in self.differing.items()
        ]
        differ = f"; these differ: {', '.join(details)}" if details else ""
        return f"{self.counts()}{differ}."


def of(results: list[ExperimentResult], reference: list[ExperimentResult], what: str) -> Replication:
    """Return how the verdicts of two sets of results agree."""
    return Replication(what, paired(verdicts_of(results), verdicts_of(reference)))


def paired(here: Verdicts, there: Verdicts) -> dict[tuple[str, str], tuple[str, str]]:
    return {claim: (here[claim], there[claim]) for claim in here if claim in there}


def verdicts_of(results: list[ExperimentResult]) -> Verdicts:
    return empirical(verdict.as_dict() for result in results for verdict in result.verdicts)


def empirical(claims: Iterable[Mapping]) -> Verdicts:
    """Return the verdicts of claims, as claims.json has them, that rest on runs and are no identities."""
    return {(claim["experiment"], claim["claim"]): claim["verdict"] for claim in claims if is_empirical(claim)}


def beside(folder: Path, here: Verdicts) -> list[Replication]:
    """Return the replications that lie beside a report, in the order of their names."""
    found = []
    for other in sorted(folder.parent.glob(f"{folder.name}_*/claims.json")):
        try:
            there = empirical(json.loads(other.read_text(encoding="utf-8"))["claims"])
            provenance = dict(json.loads(other.with_name("provenance.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:  # another's, or damaged
            print(f"{other.parent} is left out, it holds no report ({first_line(error)})", file=sys.stderr)
            continue
        if "first_seed" not in provenance:  # of another kind: a copy that was made before replications were
            continue
        what = ", ".join([f"seeds {provenance['first_seed']} and up", *provenance.get("processor", [])])
        found.append(Replication(what, paired(here, there), other.parent.name, ("reference", "replication")))
    return found
