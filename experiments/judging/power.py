"""How many pairs of runs a claim needs, from the spread of its differences on the tuning seeds."""

import math
from dataclasses import replace

import pandas as pd
import scipy.stats

from experiments.config.experiment import Experiment
from experiments.judging.cells import CellReader
from experiments.judging.claims import kinds_of
from experiments.judging.claims.difference import LEVEL, Difference
from experiments.runs.rows import CURVE_COLUMNS

WANTED = 0.8
FEWEST = 5  # pairs: with fewer an interval is wide whatever the spread
MOST = 20  # with more an effect is found that hardly matters
FEWEST_SEEDS = 3  # for a spread


def pairs_needed(experiment: Experiment, rows: pd.DataFrame) -> dict[str, int]:
    """Return the pairs with which the t test of every contrast of a claim has a power of 80 %, by claim.

    rows: the tuning runs at the chosen rates. The effect of a contrast is the tuning seeds' own mean difference on the
    validation split, or the margin where that is larger; the spread, of few seeds each, is the root mean square of the
    contrasts' standard deviations; the level is that of Holm's first step. Only claims whose metric the tuning runs
    have are planned, and none where the tuning has fewer than three seeds. A verdict needs a mean beyond the margin as
    well: of a true effect that equals the margin, half of all samples have one, whatever their number.
    """
    seeds = list(experiment.tune_seeds)
    if len(seeds) < FEWEST_SEEDS:
        return {}
    plain = replace(experiment, final_seeds=seeds, floors=[], chance=None)
    needed = {}
    for name, kind in kinds_of(experiment).items():
        if not (isinstance(kind, Difference) and kind.in_tuning_rows and kind.metric.startswith("test/")):
            continue
        reader = CellReader(rows, pd.DataFrame(columns=CURVE_COLUMNS), plain, kind.metric.replace("test/", "val/"))
        found = [kind.measure(reader, a, b).differences for a, b in kind.pairs()]
        spread = math.sqrt(sum(d.var() for d in found) / len(found))
        effect = min(max(abs(d.mean()), kind.claim.margin) for d in found)
        if math.isfinite(spread):
            needed[name] = pairs_for(effect / spread, LEVEL / len(found)) if spread else FEWEST
    return needed


def pairs_for(effect: float, level: float) -> int:
    """Return the fewest pairs, within FEWEST and MOST, with which a paired t test has the wanted power.

    effect: the mean difference in standard deviations of a difference.
    """
    return next((n for n in range(FEWEST, MOST) if power(effect, n, level) >= WANTED), MOST)


def power(effect: float, n: int, level: float) -> float:
    """Return the probability that a two-sided paired t test with n pairs finds the effect, with its sign."""
    return float(scipy.stats.nct.sf(scipy.stats.t.isf(level / 2, n - 1), n - 1, effect * math.sqrt(n)))
