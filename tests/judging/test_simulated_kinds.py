"""Claims about speed, about the sensitivity to the rate and about a reversal, on simulated runs: what their intervals
cover, that nothing comes out where there is nothing, and that planted effects are found.

The bounds leave two standard errors or more around 95 %.
"""

import numpy as np
import pandas as pd
import pytest

from experiments.judging.verdict import NOT_RESOLVED, REPRODUCED
from tests.judging.test_claims import RATED, REVERSAL, SEEDS, SENSITIVITY, SPEED, families, rows, verdict

EXPERIMENTS = 300
STEPS = np.arange(1, 21) * 100
RATES = (0.001, 0.004, 0.016, 0.064)


def simulated(kind: str, effect: float, rng: np.random.Generator):
    """The verdict on one experiment of five seeds with a planted effect: of the mean d, whose truth it is."""
    return {"speed": of_speed, "sensitivity": of_sensitivity, "reversal": of_reversal}[kind](effect, rng)


def of_speed(effect: float, rng: np.random.Generator):
    """Losses fall as a power of the steps; LN runs e^effect times as long, give or take 0.1 for each seed."""
    table = rows(ln=1.0, none=1.0)
    curves = []
    for norm, shift in (("ln", effect), ("none", 0.0)):
        for seed in SEEDS:
            clock = STEPS / np.exp(shift + rng.normal(0, 0.1 / 2**0.5))
            curve = {"run_id": f"lstm-{norm}-s{seed}", "step": STEPS, "examples": STEPS, "seconds": STEPS}
            curves.append(pd.DataFrame({**curve, "val/loss": 5 * clock**-0.15}))
    return verdict(table, pd.concat(curves), **{**SPEED, "margin": 0.01})


def of_sensitivity(effect: float, rng: np.random.Generator):
    """Losses over the rates are a parabola in the logarithm, of whose mean above the lowest LN has `effect` more."""
    curvature = {"none": 0.2, "ln": 0.2 + effect / 1.25}
    parts = []
    for norm, bend in curvature.items():
        for at, rate in enumerate(RATES):
            loss = 2.0 + bend * (at - 1) ** 2  # 1, 0, 1, 4: their mean less the lowest is 1.5
            parts.append(rows(**{norm: loss + rng.normal(0, 0.02, 5)}).assign(rate=str(rate)))
    return verdict(pd.concat(parts), about=RATED, **{**SENSITIVITY, "margin": 0.001})


def of_reversal(effect: float, rng: np.random.Generator):
    """LN lies below BN by `effect` in the LSTM and above it in the CNN, in multiples of the margins 0.1 and 2."""
    recurrent = {"none": 9.0, "bn": 2.0 + rng.normal(0, 0.02, 5), "ln": 2.0 + 0.1 * effect + rng.normal(0, 0.02, 5)}
    conv = {"none": 90.0, "bn": 50.0 + rng.normal(0, 0.4, 5), "ln": 50.0 - 2 * effect + rng.normal(0, 0.4, 5)}
    return verdict(families(recurrent, conv), **REVERSAL)


@pytest.mark.parametrize(
    "kind, effect, truth", [("speed", -0.3, -0.3), ("sensitivity", -0.1, -0.12), ("reversal", -2.0, -2.0)]
)
def test_planted_effects_are_found_and_covered(kind, effect, truth):
    """Of four standard errors and more: power 0.9 or higher by the noncentral t."""
    rng = np.random.default_rng(21)
    verdicts = [simulated(kind, effect, rng) for _ in range(EXPERIMENTS)]
    intervals = [verdict.outcomes[0].interval for verdict in verdicts]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.925 <= covered <= 0.975, covered
    assert np.mean([verdict.verdict == REPRODUCED for verdict in verdicts]) >= 0.9


@pytest.mark.parametrize("kind", ["speed", "sensitivity", "reversal"])
def test_nothing_comes_out_where_there_is_nothing(kind):
    rng = np.random.default_rng(22)
    found = pd.Series([simulated(kind, 0.0, rng).verdict for _ in range(EXPERIMENTS)])
    assert (found == NOT_RESOLVED).mean() >= 0.93
