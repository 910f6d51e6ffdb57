"""The curve through the trials."""

import math

import numpy as np
import pytest

from loadtest.capacity.fit import Point, crossing

pytestmark = pytest.mark.slow


def points(random: np.random.Generator, *, lean: int, trials: int = 20) -> list[Point]:
    """Tries of a server whose share over the objective is 1 % at 1,000 a second; `lean` requests are over together."""
    rates = 1000 * np.exp(random.uniform(-0.15, 0.15, trials))
    share = 1 / (1 + np.exp(-(math.log(0.01 / 0.99) + 15 * np.log(rates / 1000))))
    over = lean * random.binomial(3000 // lean, share)
    return [Point(float(rate), int(found), 3000) for rate, found in zip(rates, over, strict=True)]


@pytest.mark.parametrize("lean", [1, 10])
def test_the_interval_covers_whether_or_not_requests_lean_on_one_another(lean: int) -> None:
    random = np.random.default_rng(4)
    found = [crossing(points(random, lean=lean)) for _ in range(400)]
    inside = [each is not None and each.low <= 1000 <= each.high for each in found]
    assert sum(inside) >= 0.97 * len(inside)


def test_leaning_requests_widen_the_interval() -> None:
    random = np.random.default_rng(5)
    alone, together = (crossing(points(random, lean=lean)) for lean in (1, 10))
    assert alone is not None
    assert together is not None
    assert together.high / together.low > alone.high / alone.low


def test_tries_on_one_side_cross_nothing() -> None:
    assert crossing([Point(100.0 * number, 0, 3000) for number in range(1, 20)]) is None
    assert crossing([Point(100.0, 0, 3000), Point(200.0, 900, 3000)]) is None  # too few


@pytest.mark.parametrize("odd_one", [0, 3000])
def test_a_server_that_is_overrun_between_two_tries_has_a_crossing_there(odd_one: int) -> None:
    trials = [(334, 0), (334, 0), (472, 1), (530, 3000), (595, 3000), (794, odd_one)]
    found = crossing([Point(rate, over, 3000) for rate, over in trials])
    assert found is not None
    assert math.isfinite(found.rate)
    if odd_one:
        assert 400 < found.rate < 530


def test_tries_that_show_no_slope_bound_nothing() -> None:
    found = crossing([Point(1000.0 + number, [0, 300][number % 2], 3000) for number in range(8)])
    assert found is not None
    assert (found.low, found.high > 1e9) == (0.0, True)
