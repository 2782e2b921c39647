"""The answer in five sentences, made of the verdicts: which normaliser for which network, in which regime.

A sentence is made of clauses, one for each claim. A clause names the contrasts that came out one way or another, with
their numbers, so that no sentence can say more than its rows do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from experiments.judging.verdict import CONTRADICTED, NOT_RESOLVED, REPRODUCED
from experiments.report.names import NETWORKS
from experiments.report.tables import has_runs

SMALL, RULED_OUT = "small", "ruled out"  # what a contrast that is not resolved may have shown all the same


@dataclass(frozen=True)
class Clause:
    """What is said of a claim's contrasts, by their verdict. {of} becomes the contrasts with their numbers."""

    experiment: str
    claim: str
    reproduced: str
    contradicted: str
    open: str

    def text(self, claim: Mapping[str, Any]) -> str:
        """Return the clause for the claim as claims.json has it.

        A dagger stands where its verdict "flips" in a replication.
        """
        of = {
            what: listed([named(one) for one in outcomes])
            for what in (REPRODUCED, CONTRADICTED, SMALL, RULED_OUT, NOT_RESOLVED)
            if (outcomes := [one for one in claim["outcomes"] if came_out(one) == what])
        }
        templates = {REPRODUCED: self.reproduced, CONTRADICTED: self.contradicted}
        parts = [template.format(of=of[what]) for what, template in templates.items() if what in of]
        if SMALL in of:
            small = f"by too little to count in the {of[SMALL]}"
            parts.append(small if parts else f"{self.reproduced.format(of=of[SMALL])}, by too little to count")
        if RULED_OUT in of:
            whole = f"that {self.reproduced.format(of=of[RULED_OUT])} is ruled out"
            parts.append(f"ruled out in the {of[RULED_OUT]}" if parts else whole)
        if NOT_RESOLVED in of:
            parts.append(f"open for the {of[NOT_RESOLVED]}" if parts else self.open.format(of=of[NOT_RESOLVED]))
        flips = " †" if claim.get("flips") else ""
        return ", ".join(parts) + flips


@dataclass(frozen=True)
class Sentence:
    about: str
    clauses: tuple[Clause, ...]


SENTENCES = (
    Sentence(
        "Recurrent networks at a constant rate",
        (
            Clause(
                "recurrent_gain",
                "ln_helps_recurrent",
                "LN lowers the test loss of the {of}",
                "LN raises the test loss of the {of}",
                "whether LN lowers the test loss is open for the {of}",
            ),
            Clause(
                "recurrent_gain",
                "ln_speeds_up_recurrent",
                "it reaches a common loss sooner in the {of}",
                "it reaches a common loss later in the {of}",
                "its speed is open for the {of}",
            ),
            Clause(
                "recurrent_gain",
                "bn_helps_recurrent",
                "BN lowers it in the {of}",
                "BN raises it in the {of}",
                "whether BN lowers it is open for the {of}",
            ),
            Clause(
                "recurrent_gain",
                "ln_beats_bn_recurrent",
                "LN is ahead of BN in the {of}",
                "LN is behind BN in the {of}",
                "LN against BN is open for the {of}",
            ),
        ),
    ),
    Sentence(
        "Another regime",
        (
            Clause(
                "recurrent_gain",
                "ln_anneals_itself",
                "a cosine takes a part of LN's gain away in the {of}",
                "a cosine adds to LN's gain in the {of}",
                "whether a cosine takes LN's gain away is open for the {of}",
            ),
            Clause(
                "recurrent_gain",
                "ln_helps_under_cosine",
                "under a cosine to 0 LN lowers the loss of the {of}",
                "under a cosine to 0 LN raises the loss of the {of}",
                "whether LN lowers the loss under a cosine to 0 is open for the {of}",
            ),
            Clause(
                "recurrent_gain",
                "cosine_beats_ln",
                "without a normaliser, but under a cosine, the {of} ends below LN's at a constant rate",
                "without a normaliser, but under a cosine, the {of} ends above LN's at a constant rate",
                "a cosine without a normaliser against LN at a constant rate is open for the {of}",
            ),
            Clause(
                "recurrent_rates",
                "ln_forgives_the_rate",
                "over a grid of learning rates LN loses less against its best one in the {of}",
                "over a grid of learning rates LN loses more against its best one in the {of}",
                "what a rate that is not the best costs is open for the {of}",
            ),
        ),
    ),
    Sentence(
        "CNNs at batch 128",
        (
            Clause(
                "conv_gain",
                "ln_helps_conv",
                "LN lowers the test error of the {of}",
                "LN raises the test error of the {of}",
                "LN neither surely helps nor surely hurts the {of}",
            ),
            Clause(
                "conv_gain",
                "ln_speeds_up_conv",
                "it reaches a common loss sooner in the {of}",
                "it reaches a common loss later in the {of}",
                "its speed is open for the {of}",
            ),
            Clause(
                "conv_gain",
                "ln_loses_to_bn_conv",
                "LN loses to BN in the {of}",
                "LN beats BN in the {of}",
                "LN against BN is open for the {of}",
            ),
            Clause(
                "conv_gain",
                "ln_helps_conv_little",
                "LN brings at most half of BN's gain to the {of}",
                "LN brings more than half of BN's gain to the {of}",
                "LN's part of BN's gain is open for the {of}",
            ),
        ),
    ),
    Sentence(
        "Small batches",
        (
            Clause(
                "batch_size",
                "bn_loses_at_2",
                "at batch 2 BN is worse in a CNN ({of})",
                "at batch 2 BN is better in a CNN ({of})",
                "at batch 2 it is open in a CNN ({of})",
            ),
            Clause(
                "recurrent_batch_size",
                "bn_hurts_recurrent_at_4",
                "at batch 4 recurrent BN is worse than no normalisation in the {of}",
                "at batch 4 recurrent BN is better than no normalisation in the {of}",
                "at batch 4 recurrent BN against no normalisation is open for the {of}",
            ),
            Clause(
                "recurrent_batch_size",
                "ln_helps_recurrent_at_4",
                "LN lowers the loss of the {of}",
                "LN raises the loss of the {of}",
                "LN's gain is open for the {of}",
            ),
            Clause(
                "recurrent_batch_size",
                "ln_helps_recurrent_at_64",
                "at batch 64, after 1/16 of the steps, LN lowers the loss of the {of}",
                "at batch 64, after 1/16 of the steps, LN raises the loss of the {of}",
                "at batch 64, after 1/16 of the steps, LN's gain is open for the {of}",
            ),
        ),
    ),
    Sentence(
        "The others",
        (
            Clause(
                "recurrent_gain",
                "wn_weaker_than_ln_recurrent",
                "WN is weaker than LN in the {of}",
                "WN is stronger than LN in the {of}",
                "WN against LN is open for the {of}",
            ),
            Clause(
                "conv_gain",
                "gn_beats_ln_conv",
                "GN is ahead of LN in the {of}",
                "GN is behind LN in the {of}",
                "GN against LN is open for the {of}",
            ),
            Clause(
                "conv_gain",
                "gn_loses_to_bn_conv",
                "GN is behind BN in the {of}",
                "GN is ahead of BN in the {of}",
                "GN against BN is open for the {of}",
            ),
        ),
    ),
)


def answers(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (what it is about, sentence) for every sentence of whose clauses a claim has been run.

    claims: as claims.json has them. Those that name a "profile" come after the others, behind its name.
    """
    by_id = {(claim["experiment"], claim["claim"]): claim for claim in claims if has_runs(claim)}
    found = []
    for sentence in SENTENCES:
        made = [(clause, by_id.get((clause.experiment, clause.claim))) for clause in sentence.clauses]
        clauses = [(claim.get("profile", ""), clause.text(claim)) for clause, claim in made if claim]
        texts = []
        for profile, part in groupby(sorted(clauses, key=itemgetter(0)), key=itemgetter(0)):
            texts.append((f"`{profile}`: " if profile else "") + "; ".join(text for _, text in part))
        if texts:
            found.append((sentence.about, f"{'; '.join(texts)}."))
    return found


def came_out(outcome: Mapping[str, Any]) -> str:
    """Return the verdict on a contrast; of one that is not resolved what it has shown, if anything.

    SMALL: it is surely as claimed, and smaller than is of interest. RULED_OUT: so is any difference of interest.
    """
    if outcome["verdict"] != NOT_RESOLVED:
        return outcome["verdict"]
    if "as claimed, but smaller than" in outcome["why"]:
        return SMALL
    return RULED_OUT if outcome["why"].endswith(" is ruled out") else NOT_RESOLVED


def named(outcome: Mapping[str, Any]) -> str:
    """Return a contrast with its numbers: LSTM (-0.055 [-0.062, -0.048] bits per character)."""
    name = next((NETWORKS[word] for word in outcome["where"].split(", ") if word in NETWORKS), outcome["label"])
    numbers = re.split(r": | \(", outcome["why"])[0] if outcome["interval"] else "no interval"
    return f"{name} ({numbers})"


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
