"""The statistics against values known from elsewhere: tables, and the same computed by scipy.stats."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from report import intervals

ROUNDS = np.random.default_rng(3).normal(0.02, 0.05, size=(5, 20))


def test_the_interval_and_the_p_value_are_students() -> None:
    known = stats.ttest_1samp(ROUNDS, 0, axis=-1)
    assert intervals.t_p_value(ROUNDS) == pytest.approx(known.pvalue)
    assert np.array(intervals.t_interval(ROUNDS)) == pytest.approx(np.array(known.confidence_interval(0.95)))


def test_the_p_value_is_below_alpha_exactly_when_the_interval_leaves_zero_out() -> None:
    values = np.random.default_rng(4).normal(0.03, 0.05, size=(200, 20))
    low, high = intervals.t_interval(values, 0.2)
    left_out = (low > 0) | (high < 0)
    assert 0 < left_out.sum() < len(values)
    assert (intervals.t_p_value(values, 0.2) <= intervals.ALPHA).tolist() == left_out.tolist()


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.125, 0.0)])
def test_rounds_that_are_all_the_same_are_certain(value: float, p_value: float) -> None:
    assert intervals.t_p_value(np.full(20, value)) == p_value


def test_rounds_that_lean_on_one_another_count_for_fewer() -> None:
    assert intervals.effective_sample_size(20, 0.0) == 20
    assert intervals.effective_sample_size(20, 0.25) == pytest.approx(12)
    assert intervals.effective_sample_size(20, -0.5) == 20
    assert intervals.effective_sample_size(20, 1.3) == 3
    plain, widened = intervals.t_interval(ROUNDS), intervals.t_interval(ROUNDS, 0.25)
    assert (widened.high - widened.low > plain.high - plain.low).all()


@pytest.mark.parametrize("lag1_autocorrelation", [0.0, 0.3])
def test_the_memory_of_short_series_is_found_without_bias(lag1_autocorrelation: float) -> None:
    news = np.random.default_rng(5).standard_normal((20_000, 120))
    for step in range(1, news.shape[1]):
        news[:, step] += lag1_autocorrelation * news[:, step - 1]
    assert intervals.lag1_autocorrelation(news[:, 100:]).mean() == pytest.approx(lag1_autocorrelation, abs=0.02)


def test_rounds_that_are_all_the_same_remember_nothing() -> None:
    assert intervals.lag1_autocorrelation(np.full(20, 0.125)) == 0


def test_the_bootstrap_draws_whole_rounds_and_the_same_for_the_same_seed() -> None:
    values = np.array([[0.0] * 10 + [1.0] * 10, [2.0] * 20])
    low, high = intervals.bootstrap_interval(values, seed=7)
    # The mean of 20 draws of 0 or 1: binomial, 2.5 % below 6 of 20 and above 14.
    assert (low[0], high[0]) == pytest.approx((0.3, 0.7), abs=0.051)
    assert (low[1], high[1]) == pytest.approx((2.0, 2.0))
    assert intervals.bootstrap_interval(values, seed=7)[0].tolist() == low.tolist()
    assert (
        intervals.bootstrap_interval(ROUNDS, seed=7)[0].tolist() != intervals.bootstrap_interval(ROUNDS, 8)[0].tolist()
    )


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([[0.9, 0.6], [0.001, 0.5]]) == pytest.approx(np.array([[1.0, 1.0], [0.002, 0.5]]))


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 32])
def test_the_smallest_detectable_difference_is_found_in_four_of_five_runs(alpha: float) -> None:
    values = ROUNDS[0]
    centre = intervals.minimum_detectable_effect(values, alpha) / intervals.standard_error(values)
    critical = stats.t.ppf(1 - alpha / 2, df=19)
    assert stats.nct.sf(critical, df=19, nc=centre) == pytest.approx(intervals.POWER, abs=0.02)


def test_the_exact_interval_is_clopper_and_pearsons() -> None:
    for count, total in [(0, 20), (1, 20), (19, 20), (20, 20), (1900, 2000)]:
        known = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
        assert intervals.exact_interval(count, total) == pytest.approx((known.low, known.high))


@pytest.mark.parametrize(("count", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_has_no_interval(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        intervals.exact_interval(count, total)


@pytest.mark.parametrize("share", [0.5, 0.01, 0.001])
@pytest.mark.parametrize("count", [1, 5, 20, 662, 6636])
def test_a_binomial_tail_is_the_sum_of_its_terms(count: int, share: float) -> None:
    terms = [
        Fraction(math.comb(count, k)) * Fraction(share) ** k * (1 - Fraction(share)) ** (count - k) for k in (0, 1)
    ]
    for successes in (0, 1):
        expected = float(sum(terms[: successes + 1]))
        assert intervals.at_most(successes, count, share) == pytest.approx(expected, rel=1e-9)
