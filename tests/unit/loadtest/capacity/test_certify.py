"""The bounds are those of the binomial distribution, and the report's."""

import numpy as np
import pytest
from scipy import stats

from loadtest.capacity import certify
from loadtest.capacity.step import p99_ms
from report import percentiles
from servepath.results.thresholds import MIN_P99_SAMPLES


@pytest.mark.parametrize("count", [459, 662, 2995, 6000, 20_000])
def test_the_bounds_are_the_binomial_distributions(count: int) -> None:
    most, least = certify.most_over(count), certify.least_over(count)
    assert stats.binom.cdf(most, count, 0.01) <= 0.01 < stats.binom.cdf(most + 1, count, 0.01)
    assert stats.binom.sf(least - 1, count, 0.01) <= 0.01 < stats.binom.sf(least - 2, count, 0.01)


def test_the_fewest_samples_are_the_reports_floor() -> None:
    floor = percentiles.minimum_samples("99")
    assert floor == MIN_P99_SAMPLES
    assert (certify.most_over(floor - 1), certify.most_over(floor)) == (0, 1)
    assert (certify.most_over(458), certify.most_over(459)) == (-1, 0)


@pytest.mark.parametrize("count", [662, 663, 700, 2995])
def test_the_p99_is_the_reports(count: int) -> None:
    times_us = np.random.default_rng(1).lognormal(6, 1, count)
    assert p99_ms(times_us) == round((percentiles.percentile(np.sort(times_us), "99") or 0) / 1e3, 3)


def test_no_error_in_2995_requests_certifies_that_few_fail() -> None:
    assert not certify.few_errors(0, certify.ERROR_FREE - 1)
    assert certify.few_errors(0, certify.ERROR_FREE)
    assert not certify.few_errors(1, certify.ERROR_FREE)
    assert certify.few_errors(1, 4742)


@pytest.mark.parametrize("count", [662, 2995, 6000])
def test_a_server_just_at_the_objective_is_certified_in_at_most_one_of_a_hundred_tries(count: int) -> None:
    over = np.random.default_rng(2).binomial(count, 0.01, 20_000)
    assert (over <= certify.most_over(count)).mean() <= 0.012
    assert (over >= certify.least_over(count)).mean() <= 0.012


def test_a_server_well_within_the_objective_is_certified() -> None:
    over = np.random.default_rng(3).binomial(2995, 0.003, 20_000)
    assert (over <= certify.most_over(2995)).mean() > 0.98


def test_a_try_has_enough_requests_at_every_rate() -> None:
    assert certify.requests_of(500) == 2995
    assert certify.requests_of(4000) == 6000
