"""Intervals and p values for paired comparisons over seeds. Intervals are at 95 %.

Student's t decides; the bootstrap beside it shows what the assumption of a normal distribution costs. Five seeds are
few: tests/judging/test_intervals.py measures for each function what it covers there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported at their first use: to check a rule needs none

RESAMPLES = 9999
DRAWN_AT_ONCE = 2**20  # values; thousands of pairs would fill a gigabyte
TAIL = 0.025  # what a 95 % interval leaves out on each side


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; `n` pairs."""

    estimate: float
    low: float
    high: float
    n: int


# --- the mean of paired differences -----------------------------------------------------------------------------------


def paired_t(differences) -> Interval:
    """Return the mean of the differences and its Student t interval. One pair gives an infinite interval.

    Five mildly skewed differences (gamma, shape 4): 93 % are covered; exponential ones: 89 %.
    """
    d = np.asarray(differences, float)
    mean = d.mean()
    if len(d) < 2:
        return Interval(mean, -np.inf, np.inf, len(d))
    if np.ptp(d) == 0:
        return Interval(mean, mean, mean, len(d))
    low, high = scipy.stats.ttest_1samp(d, 0.0).confidence_interval(1 - 2 * TAIL)
    return Interval(mean, float(low), float(high), len(d))


def bootstrap(differences) -> Interval:
    """Return the mean of the differences and its bootstrap-t interval (Efron & Tibshirani 1993, section 12.5).

        t* = (mean* - mean)/(s*/sqrt(n))  over resamples;   [mean - t*(97.5 %) s/sqrt(n), mean - t*(2.5 %) s/sqrt(n)]

    Percentile intervals lie inside the range of the differences, which holds the mean of a symmetric distribution with
    probability 1 - 2^(1-n), 93.75 % at n = 5: there the percentile interval covers 84 %, the expanded one (Hesterberg
    2015) 92 %, this one 95 % for normal differences, 94 % for mildly skewed (gamma, shape 4) and 93 % for exponential
    ones. It is 1.3 times as wide as Student's.

    An end is infinite where the resamples do not bound it: below four pairs, or when most differences are equal. One
    pair, and differences that are all equal, give `paired_t`'s interval.
    """
    d = np.asarray(differences, float)
    n, mean = len(d), d.mean()
    if n < 2 or np.ptp(d) == 0:
        return paired_t(d)
    generator, most = np.random.default_rng(0), max(1, DRAWN_AT_ONCE // n)
    parts = (generator.choice(d, (min(most, RESAMPLES - done), n)) for done in range(0, RESAMPLES, most))
    means, spreads = np.concatenate([(part.mean(1), part.std(1, ddof=1)) for part in parts], axis=1)
    off, error = means - mean, spreads / np.sqrt(n)
    rounding = 1e-9 * np.ptp(d)
    t = np.where(np.abs(off) > rounding, np.copysign(np.inf, off), 0.0)  # of the resamples that have no spread
    np.divide(off, error, out=t, where=error > rounding)
    low, high = np.quantile(t, [TAIL, 1 - TAIL], method="inverted_cdf")  # the other methods interpolate: inf - inf
    error = d.std(ddof=1) / np.sqrt(n)
    return Interval(mean, mean - high * error, mean - low * error, n)


def iqm(values) -> float:
    """Return the interquartile mean: without the floor(n/4) lowest and highest; of five values, the middle three."""
    return float(scipy.stats.trim_mean(values, 0.25))


# --- p values ---------------------------------------------------------------------------------------------------------


def p_difference(differences) -> float:
    """Return the two-sided p of the paired t test, H0: mean = 0. Without spread 0 or 1; one pair gives 1."""
    return _t_test(np.asarray(differences, float), 0.0, "two-sided")


def p_below(differences, bound: float) -> float:
    """Return the one-sided p of the paired t test, H0: mean >= bound. Small: the mean is surely below the bound.

    Without spread 0 or 1; one pair gives 1.
    """
    return _t_test(np.asarray(differences, float), bound, "less")


def _t_test(d: np.ndarray, bound: float, alternative: str) -> float:
    if len(d) < 2:
        return 1.0
    if np.ptp(d) == 0:  # no spread, for which the statistic is 0/0 or infinite
        surely = d[0] < bound or (alternative == "two-sided" and d[0] > bound)
        return 0.0 if surely else 1.0
    return float(scipy.stats.ttest_1samp(d, bound, alternative=alternative).pvalue)


def p_equivalent(differences, margin: float) -> float:
    """Return p of H0: |mean| >= margin, by two one-sided t tests (TOST, Schuirmann 1987): the larger of their p values.

    Small: the mean surely lies within the margin. A margin of 0 gives 0.5 or more.
    """
    d = np.asarray(differences, float)
    return max(p_below(d, margin), p_below(-d, margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p values in their order: each at most a means a family-wise error of at most a.

    p~(i) = max over j <= i of min(1, (m - j + 1) p(j))    p(1) <= ... <= p(m)
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, np.arange(len(p), 0, -1) * p[order]))
    return adjusted.tolist()


# --- ratios of gains --------------------------------------------------------------------------------------------------


def fieller_ratio(numerator, denominator) -> Interval | None:
    """Return mean(numerator)/mean(denominator) of paired samples with Fieller's 95 % interval.

    The interval is {r : |mean(num - r den)| <= t s(num - r den)/sqrt(n)}, the roots of a quadratic in r. None when the
    denominator does not differ from zero at 5 %: then that set is unbounded, and a ratio says nothing.
    """
    x, y = np.asarray(numerator, float), np.asarray(denominator, float)
    n = len(x)
    if n < 2 or paired_t(y).low <= 0 <= paired_t(y).high:
        return None
    q = scipy.stats.t.isf(TAIL, n - 1) ** 2 / n
    covariance = np.cov(x, y)
    a = y.mean() ** 2 - q * covariance[1, 1]
    b = x.mean() * y.mean() - q * covariance[0, 1]
    c = x.mean() ** 2 - q * covariance[0, 0]
    half = np.sqrt(max(b * b - a * c, 0.0)) / a
    return Interval(x.mean() / y.mean(), b / a - half, b / a + half, n)
