"""Verdicts on rows made by hand, and the intervals behind them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.claims import CONTRADICTED, NOT_RESOLVED, REPRODUCED, judge
from experiments.config import Claim, ConfigError, Experiment
from experiments.statistics import bootstrap, fieller_ratio, paired_t

SEEDS = [10, 11, 12, 13, 14]
NOISE = np.array([0.01, -0.02, 0.0, 0.02, -0.01])


def rows(**cells: float | list[float]) -> pd.DataFrame:
    """rows(ln=1.0, bn_b2=2.0): five seeds a cell, the mean or the five values of the metric."""
    lines = []
    for cell, metric in cells.items():
        norm, _, batch = cell.partition("_b")
        for seed, value in zip(SEEDS, np.broadcast_to(metric, 5), strict=True):
            line = {"model": "lstm", "norm": norm, "batch_size": int(batch or 32), "seed": seed, "test/bpc": value}
            lines.append({**line, "status": "done" if np.isfinite(value) else "diverged"})
    return pd.DataFrame(lines)


def verdict(table: pd.DataFrame, **rule):
    usual = {"id": "c", "statement": "s", "stated": "here", "cell": {"model": "lstm"}, "a": "ln", "b": "none"}
    claim = Claim(**{**usual, **rule})
    experiment = Experiment(name="e", metric="test/bpc", unit="bits", claims=[claim], final_seeds=SEEDS)
    (result,) = judge(experiment, table)
    return result


DIFFERENCE = {"kind": "difference", "margin": 0.1}


@pytest.mark.parametrize(
    "ln, claimed, expected",
    [
        (2.0 - 0.3 + NOISE, "lower", REPRODUCED),
        (2.0 - 0.05 + NOISE, "lower", NOT_RESOLVED),  # surely lower, but by less than the margin
        (2.0 + NOISE, "lower", NOT_RESOLVED),
        (2.0 + 0.05 + NOISE, "lower", CONTRADICTED),
        (2.0 + 0.3 + NOISE, "higher", REPRODUCED),
        (2.0 - 0.3 + NOISE, "higher", CONTRADICTED),
        (2.0 - 0.3 + 40 * NOISE, "lower", NOT_RESOLVED),  # beyond the margin, but the interval holds 0
    ],
)
def test_difference(ln, claimed, expected):
    result = verdict(rows(ln=ln, none=2.0), claimed=claimed, **DIFFERENCE)
    assert result.verdict == expected
    assert result.pairs == 5 and result.diverged == 0


def test_difference_is_paired_by_seed_not_by_order():
    level = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # seeds differ by far more than the effect
    table = rows(ln=level - 0.3 + NOISE, none=level)
    assert verdict(table.sample(frac=1, random_state=0), **DIFFERENCE).verdict == REPRODUCED


def test_swapped_labels_turn_the_verdict():
    table = rows(ln=1.5 + NOISE, none=2.0)
    table["norm"] = table["norm"].map({"ln": "none", "none": "ln"})
    assert verdict(table, **DIFFERENCE).verdict == CONTRADICTED


def test_a_diverged_run_leaves_the_claim_unresolved_and_is_counted():
    result = verdict(rows(ln=[1.0, 1.0, 1.0, 1.0, np.nan], none=2.0), **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and result.diverged == 1 and "1 of 5 pairs" in result.why


def test_a_dropped_seed_leaves_the_claim_unresolved():
    table = rows(ln=1.0 + NOISE, none=2.0)
    result = verdict(table[(table["seed"] != 12) | (table["norm"] != "ln")], **DIFFERENCE)
    assert result.verdict == NOT_RESOLVED and result.pairs == 4 and "1 of 5 pairs" in result.why


def test_rows_of_other_cells_do_not_enter():
    other = rows(ln=99.0, none=0.0).assign(model="gru")
    table = pd.concat([rows(ln=1.5 + NOISE, none=2.0), other])
    assert verdict(table, **DIFFERENCE).interval.estimate == pytest.approx(-0.5)


def test_two_rows_for_one_seed_are_an_error():
    table = pd.concat([rows(ln=1.0, none=2.0), rows(ln=1.0)])
    with pytest.raises(ValueError, match="two rows for one seed"):
        verdict(table, **DIFFERENCE)


INTERACTION = {"kind": "interaction", "a": "bn", "b": "ln", "at": [2, 64], "claimed": "higher", "margin": 0.1}


def test_interaction_is_the_difference_of_differences():
    falls_apart = rows(bn_b2=3.0 + NOISE, ln_b2=2.0, bn_b64=1.0, ln_b64=1.5)
    assert verdict(falls_apart, **INTERACTION).interval.estimate == pytest.approx(1.0 + 0.5)
    assert verdict(falls_apart, **INTERACTION).verdict == REPRODUCED
    # everything gets worse at batch 2 alike: no curve alone may decide
    assert verdict(rows(bn_b2=3.0 + NOISE, ln_b2=3.5, bn_b64=1.0, ln_b64=1.5), **INTERACTION).verdict == NOT_RESOLVED


SHARE = {"kind": "share", "b": "bn", "base": "none", "at_most": 0.5, "surely_below": 0.75}


def test_share_of_the_gain():
    assert verdict(rows(none=3.0, ln=2.8 + NOISE, bn=2.0 - NOISE), **SHARE).verdict == REPRODUCED
    assert verdict(rows(none=3.0, ln=2.1 + NOISE, bn=2.0 - NOISE), **SHARE).verdict == CONTRADICTED
    assert verdict(rows(none=3.0, ln=2.55 + 20 * NOISE, bn=2.0), **SHARE).verdict == NOT_RESOLVED
    vanishing = verdict(rows(none=3.0, ln=2.9, bn=3.0 + NOISE), **SHARE)
    assert vanishing.verdict == NOT_RESOLVED and "not surely above 0" in vanishing.why


def test_share_of_a_loss_says_nothing():
    """BN that hurts is no yardstick, whatever LN does."""
    for ln in (1.0, 5.0):
        result = verdict(rows(none=3.0, ln=ln + NOISE, bn=4.0 - NOISE), **SHARE)
        assert result.verdict == NOT_RESOLVED and "not surely above 0" in result.why


def test_an_interaction_counts_the_diverged_runs_of_its_own_batches():
    table = rows(bn_b2=3.0 + NOISE, ln_b2=2.0, bn_b64=1.0, ln_b64=1.5, bn_b8=np.nan)
    assert verdict(table, **INTERACTION).diverged == 0


@pytest.mark.parametrize("rule", [{"kind": "ratio"}, {"claimed": "Lower"}, {"kind": "interaction", "at": [2]}])
def test_a_rule_that_cannot_be_judged_is_refused(rule):
    with pytest.raises(ConfigError, match="claim c: "):
        verdict(rows(ln=1.0, none=2.0), **{**DIFFERENCE, **rule})


def test_paired_t_is_students():
    a, b = np.random.default_rng(1).normal(size=(2, 8))
    interval, expected = paired_t(a - b), stats.ttest_rel(a, b).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert np.isinf(paired_t([1.0]).high)


def test_bootstrap_holds_the_mean_and_is_the_same_every_time():
    d = np.random.default_rng(2).normal(1.0, 1.0, 12)
    interval = bootstrap(d)
    assert interval.low < d.mean() < interval.high and interval == bootstrap(d)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * d.std() / np.sqrt(12), rel=0.15)


def test_fieller_bounds_solve_their_equation():
    rng = np.random.default_rng(3)
    x, y = 1.0 + 0.2 * rng.normal(size=6), 2.0 + 0.2 * rng.normal(size=6)
    interval = fieller_ratio(x, y)
    for bound in (interval.low, interval.high):
        assert stats.ttest_1samp(x - bound * y, 0).pvalue == pytest.approx(0.05)
    assert fieller_ratio(x, y - 2.0) is None


def test_intervals_cover_as_they_say():
    rng = np.random.default_rng(4)
    covered_t = covered_f = 0
    for _ in range(2000):
        x, y = rng.normal(0.4, 0.3, 5), rng.normal(1.0, 0.3, 5)
        covered_t += (t := paired_t(x)).low <= 0.4 <= t.high
        ratio = fieller_ratio(x, y)
        covered_f += ratio is None or ratio.low <= 0.4 <= ratio.high
    assert 0.935 < covered_t / 2000 < 0.965
    assert covered_f / 2000 > 0.935
