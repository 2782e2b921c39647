"""The tests and intervals that decide a claim, against statsmodels."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from experiments.judging.intervals import holm, p_below, p_difference, p_equivalent, paired_t
from experiments.judging.power import pairs_for, power


def paired_differences() -> Iterator[tuple[np.ndarray, float]]:
    """Yield differences of 2 to 20 pairs around 0 and beside it, and their scale, from 1e-6 to 1e6."""
    for n, scale, shift in itertools.product((2, 3, 5, 20), (1e-6, 1.0, 1e6), (-1.0, 0.0, 0.3)):
        random = np.random.default_rng([n, int(10 * shift) + 10])
        yield scale * random.normal(shift, 1.0, n), scale


def test_paired_t_and_its_p_value_are_those_of_statsmodels():
    for d, _ in paired_differences():
        oracle = DescrStatsW(d)
        interval = paired_t(d)
        assert (interval.low, interval.high) == pytest.approx(oracle.tconfint_mean(0.05), rel=1e-9)
        assert p_difference(d) == pytest.approx(oracle.ttest_mean(0.0)[1], rel=1e-9)


def test_one_sided_p_values_are_those_of_statsmodels():
    for d, scale in paired_differences():
        for bound in (-0.5 * scale, 0.0, scale):
            assert p_below(d, bound) == pytest.approx(DescrStatsW(d).ttest_mean(bound, "smaller")[1], rel=1e-9)


def test_equivalence_is_statsmodels_tost():
    for d, scale in paired_differences():
        for margin in (0.1 * scale, scale, 10 * scale):
            oracle, _, _ = ttost_paired(d, np.zeros_like(d), -margin, margin)
            assert p_equivalent(d, margin) == pytest.approx(oracle, rel=1e-9)


def test_holm_is_statsmodels_multipletests():
    random = np.random.default_rng(0)
    for m in (1, 2, 3, 8):
        p_values = random.uniform(0, 0.2, m)
        assert holm(list(p_values)) == pytest.approx(multipletests(p_values, method="holm")[1], rel=1e-12)


@pytest.mark.parametrize("level", [0.05, 0.0125])
@pytest.mark.parametrize("n", [5, 9, 20])
@pytest.mark.parametrize("effect", [0.2, 0.8, 2.0])
def test_power_is_statsmodels_power_of_a_t_test(effect, n, level):
    expected = TTestPower().power(effect, n, level / 2, alternative="larger")  # of the right sign
    assert power(effect, n, level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("effect", [0.9, 1.2])
def test_pairs_are_those_of_statsmodels(effect):
    wanted = TTestPower().solve_power(effect, power=0.8, alpha=0.025, alternative="larger")
    assert pairs_for(effect, 0.05) == math.ceil(wanted)
    assert pairs_for(50.0, 0.05) == 5 and pairs_for(0.01, 0.05) == 20
