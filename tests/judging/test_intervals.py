"""Intervals and p values by simulation, five seeds each unless said: what is covered, how often a true null is refused.

Counts are of fixed generators. The bounds leave about four standard errors around the exact value, or around the
measured one where there is no exact one.
"""

import warnings
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from experiments.judging import intervals
from experiments.judging.intervals import (
    Interval,
    bootstrap,
    fieller_ratio,
    holm,
    iqm,
    p_below,
    p_difference,
    p_equivalent,
    paired_t,
)

SEEDS = 5


def covered(intervals: list[Interval | None], truth: float) -> float:
    """The part of the defined intervals that hold the truth."""
    defined = [interval for interval in intervals if interval is not None]
    assert len(defined) > 0.9 * len(intervals), "too few are defined to say what they cover"
    return float(np.mean([i.low - 1e-9 <= truth <= i.high + 1e-9 for i in defined]))


def gains(rng: np.random.Generator, means: list[float], spread: float) -> dict[str, np.ndarray]:
    """Gains over five seeds, named a, b, ...; half of the variance is the baseline's, which all of them share."""
    noise = rng.normal(size=(len(means), SEEDS)) + rng.normal(size=SEEDS)
    return dict(zip("abcdef", np.array(means)[:, None] + spread * np.sqrt(0.5) * noise, strict=False))


# --- the mean of paired differences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method, repetitions", [(paired_t, 8000), (bootstrap, 3000)])
def test_intervals_of_the_mean_cover_95_percent(method, repetitions):
    """Over 10,000 repetitions: paired t 95.4 %, bootstrap-t 95.6 %. An expanded percentile interval covers 92 %."""
    samples = np.random.default_rng(1).normal(0.4, 0.3, (repetitions, SEEDS))
    assert covered([method(d) for d in samples], 0.4) == pytest.approx(0.95, abs=0.015)


def test_bootstrap_leans_to_the_side_of_the_long_tail():
    """Student's interval is symmetric whatever the differences; this is what the second view is for."""
    interval = bootstrap([0.0, 0.1, 0.2, 0.3, 2.0])
    assert interval.high - interval.estimate > 2 * (interval.estimate - interval.low)
    mirrored = bootstrap([0.0, -0.1, -0.2, -0.3, -2.0])
    assert mirrored.low == pytest.approx(-interval.high) and mirrored.high == pytest.approx(-interval.low)


@pytest.mark.parametrize("n", [4, 5, 301])
def test_bootstrap_drawn_in_parts_is_the_same(n, monkeypatch):
    """Resamples of thousands of pairs, as of a folder of ten thousand runs, fill a gigabyte at once."""
    d = np.random.default_rng(n).normal(size=n)
    whole = bootstrap(d)
    monkeypatch.setattr(intervals, "DRAWN_AT_ONCE", 1000)
    assert bootstrap(d) == whole


def test_bootstrap_tends_to_students_interval():
    d = np.random.default_rng(2).normal(1.0, 1.0, 400)
    ours, students = bootstrap(d), paired_t(d)
    assert ours == bootstrap(d)
    assert (ours.low, ours.high) == pytest.approx((students.low, students.high), abs=0.005)


def test_intervals_of_too_few_or_equal_differences():
    everything = (-np.inf, np.inf)
    assert (paired_t([0.3]).low, paired_t([0.3]).high) == everything
    for few in ([0.3], [0.1, 0.2], [0.1, 0.2, 0.4]):
        assert (bootstrap(few).low, bootstrap(few).high) == everything
    for method in (paired_t, bootstrap):
        equal = method([0.3] * 5)
        assert (equal.low, equal.estimate, equal.high) == pytest.approx((0.3, 0.3, 0.3))
    assert bootstrap([0.0, 0.0, 0.0, 0.0, 1.0]).high == np.inf  # a third of the resamples are all zero
    with_middle = bootstrap([0.3, 0.2, 0.2, 0.2, 0.1])  # 0/0 in a resample of the middle value alone
    assert 0.1 < with_middle.low < 0.2 < with_middle.high < 0.3


def test_interquartile_mean():
    assert iqm([9.0, 1.0, 2.0, 3.0, -50.0]) == 2.0
    assert iqm([1.0, 2.0, 6.0]) == 3.0  # a quarter of three is none
    assert iqm(range(8)) == 3.5 and iqm([0, 0, 1, 2, 3, 4, 90, 90]) == 2.5


# --- p values ---------------------------------------------------------------------------------------------------------


def test_p_values_are_those_of_scipy():
    d = np.random.default_rng(3).normal(0.2, 0.3, SEEDS)
    assert p_difference(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert p_below(d, 0.5) == pytest.approx(stats.ttest_1samp(d, 0.5, alternative="less").pvalue)
    low, high = (stats.ttest_1samp(d, m, alternative=side).pvalue for m, side in ((-0.5, "greater"), (0.5, "less")))
    assert p_equivalent(d, 0.5) == pytest.approx(max(low, high))
    assert (p_difference(d) < 0.05) == (not paired_t(d).low <= 0 <= paired_t(d).high)


@pytest.mark.parametrize("p_value", [lambda d: p_difference(d - 0.2), lambda d: p_below(d, 0.2)])
def test_p_values_are_uniform_under_the_null(p_value):
    samples = np.random.default_rng(4).normal(0.2, 0.3, (5000, SEEDS))
    assert stats.kstest([p_value(d) for d in samples], "uniform").pvalue > 0.01


def test_equivalence_at_the_edge_of_the_margin_and_within():
    """At mean = margin at most 5 % are called equivalent; at mean 0 95 % for a margin of 2 sd, 29 % for 1 sd."""

    def called(mean: float, margin: float) -> float:
        samples = np.random.default_rng(5).normal(mean, 1.0, (1500, SEEDS))
        return float(np.mean([p_equivalent(d, margin) < 0.05 for d in samples]))

    assert called(2.5, 2.5) == pytest.approx(0.05, abs=0.018)
    assert called(-2.5, 2.5) == pytest.approx(0.05, abs=0.018)
    assert called(1.0, 1.0) < 0.064  # the margin as wide as the spread: still no more
    assert called(0.0, 2.0) > 0.9
    assert called(0.0, 1.0) < 0.5  # no verdict from a margin as small as the spread of five seeds


def test_p_values_without_spread_and_of_one_pair():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert p_difference([0.1] * 5) == p_difference([-0.1] * 5) == 0.0
        assert p_difference([0.0] * 5) == 1.0
        assert (p_below([0.1] * 5, 0.2), p_below([0.2] * 5, 0.2), p_below([0.3] * 5, 0.2)) == (0.0, 1.0, 1.0)
        assert (p_equivalent([0.1] * 5, 0.2), p_equivalent([-0.2] * 5, 0.2)) == (0.0, 1.0)
        assert p_difference([0.1]) == p_below([0.1], 0.2) == p_equivalent([0.1], 0.2) == 1.0


def test_holm_is_the_closed_test_of_bonferroni():
    """p~_i = the largest, over all sets of hypotheses that hold i, of the set's size times its smallest p."""
    rng = np.random.default_rng(6)
    for m in (1, 2, 5):
        for p in (rng.uniform(0, 0.3, m), rng.uniform(0, 1, m), np.repeat(0.02, m)):
            sets = [list(held) for size in range(1, m + 1) for held in combinations(range(m), size)]
            tests = [(held, min(1.0, len(held) * p[held].min())) for held in sets]
            assert holm(p) == pytest.approx([max(value for held, value in tests if i in held) for i in range(m)])
    assert holm([]) == []


def test_holm_keeps_the_family_wise_error():
    """Six comparisons with one baseline, two of them true effects: some true null is refused in 5 % at most."""
    rng = np.random.default_rng(7)
    refused = uncorrected = 0
    for _ in range(1500):
        d = list(gains(rng, [0, 0, 0, 0, 3, 3], 1.0).values())
        p = [p_difference(each) for each in d]
        refused += min(holm(p)[:4]) < 0.05
        uncorrected += min(p[:4]) < 0.05
    assert refused / 1500 < 0.05
    assert uncorrected / 1500 > 0.08  # so there was something to correct


# --- ratios of gains --------------------------------------------------------------------------------------------------


def test_fieller_interval_is_what_the_t_test_does_not_reject():
    rng = np.random.default_rng(8)
    ratios = np.linspace(-3, 5, 8001)
    for _ in range(20):
        x, y = rng.normal(0.5, 0.4, SEEDS), rng.normal(1.0, 0.3, SEEDS)
        interval = fieller_ratio(x, y)
        if interval is None or not -3 < interval.low < interval.high < 5:
            continue
        kept = ratios[stats.ttest_1samp(x - ratios[:, None] * y, 0, axis=1).pvalue >= 0.05]
        assert (interval.low, interval.high) == pytest.approx((kept.min(), kept.max()), abs=0.0011)


@pytest.mark.parametrize("spread", [0.1, 0.3])
def test_fieller_interval_covers_95_percent(spread):
    """Measured: 94.7 % for both."""
    rng = np.random.default_rng(9)
    pairs = [gains(rng, [0.4, 1.0], spread) for _ in range(4000)]
    assert covered([fieller_ratio(g["a"], g["b"]) for g in pairs], 0.4) == pytest.approx(0.95, abs=0.015)
