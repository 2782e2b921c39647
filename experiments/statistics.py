"""Intervals for paired comparisons over seeds. All at 95 %."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; `n` pairs."""

    estimate: float
    low: float
    high: float
    n: int


def paired_t(differences) -> Interval:
    """Mean of the differences and its Student t interval. One pair gives an infinite interval."""
    d = np.asarray(differences, float)
    mean = d.mean()
    if len(d) < 2:
        return Interval(mean, -np.inf, np.inf, len(d))
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return Interval(mean, mean - half, mean + half, len(d))


def bootstrap(differences) -> Interval:
    """Mean of the differences and its percentile bootstrap interval over seeds (too narrow for few seeds)."""
    d = np.asarray(differences, float)
    if len(d) < 2 or np.ptp(d) == 0:
        return Interval(d.mean(), d.min(), d.max(), len(d))
    result = stats.bootstrap((d,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0))
    return Interval(d.mean(), *result.confidence_interval, len(d))


def fieller_ratio(numerator, denominator) -> Interval | None:
    """mean(numerator)/mean(denominator) of paired samples with Fieller's 95 % interval.

    The interval is {r : |mean(num - r den)| <= t s(num - r den)/sqrt(n)}, the roots of a quadratic in r. None when the
    denominator does not differ from zero at 5 %: then that set is unbounded, and a ratio says nothing.
    """
    x, y = np.asarray(numerator, float), np.asarray(denominator, float)
    n = len(x)
    if n < 2 or paired_t(y).low <= 0 <= paired_t(y).high:
        return None
    q = stats.t.ppf(0.975, n - 1) ** 2 / n
    covariance = np.cov(x, y)
    a = y.mean() ** 2 - q * covariance[1, 1]
    b = x.mean() * y.mean() - q * covariance[0, 1]
    c = x.mean() ** 2 - q * covariance[0, 0]
    half = np.sqrt(max(b * b - a * c, 0.0)) / a
    return Interval(x.mean() / y.mean(), b / a - half, b / a + half, n)
