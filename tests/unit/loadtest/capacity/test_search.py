"""The search on servers whose capacity is known."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.capacity import search
from loadtest.capacity.search import Found, Limit, Outcome, Result, Search, Trial, conclude, rate_of
from tests.simulated_server import CAPACITY, SimulatedServer

pytestmark = pytest.mark.slow

SEARCHES = 200


def found_by(server: SimulatedServer) -> Found:
    looking = Search(server.attempt, server.left_s)
    looking.run()
    return conclude(looking.trials)


@pytest.fixture(scope="module")
def searches() -> list[Found]:
    return [found_by(SimulatedServer(seed)) for seed in range(SEARCHES)]


def bounds(found: Found) -> tuple[float, float]:
    return found.low or 0.0, found.high or math.inf


def test_the_interval_has_the_servers_capacity_in_it(searches: Sequence[Found]) -> None:
    inside = [low <= CAPACITY <= high for low, high in map(bounds, searches)]
    assert sum(inside) >= 0.95 * SEARCHES


def steep(random: np.random.Generator, rate: float, count: int) -> npt.NDArray[np.float64]:
    """Answer as a server whose share over the objective has odds that grow with the 50th power of the rate."""
    odds = 0.01 / 0.99 * (rate / CAPACITY) ** 50 * math.exp(random.normal(0, 0.3))
    return np.where(random.random(count) < odds / (1 + odds), 1.0, 0.0)


def test_the_interval_has_the_capacity_of_a_server_in_it_that_is_overrun_at_once() -> None:
    inside = []
    for seed in range(SEARCHES // 2):
        server = SimulatedServer(seed)
        server.draw = steep
        low, high = bounds(found_by(server))
        inside.append(low <= CAPACITY <= high)
    assert sum(inside) >= 0.95 * len(inside)


def test_the_interval_is_narrow(searches: Sequence[Found]) -> None:
    widths = sorted(high / low if low else math.inf for low, high in map(bounds, searches))
    assert widths[SEARCHES // 2] < 1.25


def test_two_searches_agree(searches: Sequence[Found]) -> None:
    pairs = zip(map(bounds, searches[::2]), map(bounds, searches[1::2]), strict=True)
    overlapping = [max(one[0], other[0]) <= min(one[1], other[1]) for one, other in pairs]
    assert sum(overlapping) >= 0.95 * len(overlapping)


def test_the_rate_is_near_the_capacity_and_in_the_interval(searches: Sequence[Found]) -> None:
    rates = [found.rate or 0.0 for found in searches]
    near = [0.8 * CAPACITY <= rate <= 1.03 * CAPACITY for rate in rates]
    assert sum(near) >= 0.95 * SEARCHES
    assert all(low <= rate <= high for rate, (low, high) in zip(rates, map(bounds, searches), strict=True) if rate)


def test_a_search_keeps_its_time() -> None:
    server = SimulatedServer(1, time_s=30.0)
    found_by(server)
    assert server.took_s < 31.0


def test_the_generators_limit_is_not_quoted_as_the_servers() -> None:
    for seed in range(20):
        found = found_by(SimulatedServer(seed, beyond=1500.0))
        assert (found.limit, found.high) == (Limit.GENERATOR, None)
        assert found.rate == rate_of(19) == 1498.0


def test_a_generators_limit_far_above_the_capacity_changes_nothing() -> None:
    found = found_by(SimulatedServer(1, beyond=3900.0))
    assert found.limit is Limit.SERVER
    assert found.high is not None


def outcomes(outcome: Outcome, over: int = 0) -> list[Trial]:
    looking = Search(lambda _: Result(outcome, over, 3000), lambda: 1e9)
    looking.run()
    return looking.trials


def test_wrong_answers_end_the_search_at_once() -> None:
    trials = outcomes(Outcome.WRONG)
    assert len(trials) == 1
    assert conclude(trials) == Found(None, None, None, Limit.WRONG)


def test_a_wrong_answer_beyond_the_capacity_leaves_none() -> None:
    trials = outcomes(Outcome.MET)
    assert conclude(trials).rate is not None
    assert conclude(trials, wrong_outside=1) == Found(None, None, None, Limit.WRONG)


def test_a_server_that_keeps_the_objective_at_no_rate_has_no_capacity() -> None:
    trials = outcomes(Outcome.NOT_MET, over=3000)
    assert min(each.rate_index for each in trials) == search.LOWEST
    assert conclude(trials) == Found(None, None, rate_of(search.LOWEST), Limit.SERVER)


def test_a_generator_that_is_always_late_finds_nothing() -> None:
    found = conclude(outcomes(Outcome.INVALID))
    assert (found.rate, found.limit) == (None, Limit.GENERATOR)


def test_one_invalid_try_is_repeated_and_decides_nothing() -> None:
    spoiled = iter([True])

    def attempt(rate: float) -> Result:
        if rate == 1000 and next(spoiled, False):
            return Result(Outcome.INVALID, 900, 1000)
        return Result(Outcome.MET, 0, 3000) if rate <= 1500 else Result(Outcome.NOT_MET, 3000, 3000)

    left_s = iter(range(60, 0, -1))
    looking = Search(attempt, lambda: next(left_s))
    looking.run()
    assert [(each.rate_index, each.result.outcome) for each in looking.trials[1:3]] == [
        (12, Outcome.INVALID),
        (12, Outcome.MET),
    ]
    found = conclude(looking.trials)
    assert found.limit is Limit.SERVER
    assert found.rate == pytest.approx(1500, rel=0.13)


def tried(*places: tuple[int, Outcome]) -> list[Trial]:
    over = {Outcome.MET: 5, Outcome.UNSURE: 25}
    return [Trial(rate_index, Result(outcome, over.get(outcome, 300), 3000)) for rate_index, outcome in places]


def test_what_is_met_at_a_higher_rate_counts_for_a_lower_one() -> None:
    met, failed = Outcome.MET, Outcome.NOT_MET
    assert not search.certified(tried((12, met)), 12)
    assert search.certified(tried((12, met), (14, met)), 12)
    assert not search.certified(tried((14, met), (14, met)), 12)  # nothing was tried there
    assert not search.certified(tried((12, met), (14, met), (10, failed), (12, failed), (12, failed)), 12)


def test_tries_that_scatter_too_much_for_a_curve_bound_nothing_below_and_above_what_two_refute() -> None:
    met, failed = Outcome.MET, Outcome.NOT_MET
    spoiled = tried((12, failed), (12, met), (14, met), (16, met), (10, met), (18, failed), (18, failed), (16, failed))
    found = conclude([*spoiled, *tried((8, failed), (8, met), (10, met), (12, met))])
    assert found.limit is Limit.SERVER
    assert found.rate is not None
    assert (found.low, found.high) == (None, rate_of(18))
