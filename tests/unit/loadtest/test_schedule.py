import numpy as np
import pytest

from loadtest.schedule import arrivals, share
from servepath.results.names import OPEN_CONSTANT, OPEN_POISSON


def gaps(load_model: str, rate: float = 500.0, count: int = 20_000) -> np.ndarray:
    return np.diff(arrivals(load_model, rate, count, "seed"), prepend=0)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_exponential_gaps() -> None:
    found = gaps(OPEN_POISSON)
    assert found.mean() == pytest.approx(2e6, rel=0.05)
    assert found.std() == pytest.approx(found.mean(), rel=0.05)


def test_constant_arrivals_have_equal_gaps() -> None:
    assert set(gaps(OPEN_CONSTANT, rate=500.0).tolist()) == {2_000_000}


def test_the_seed_alone_decides_when_requests_are_due() -> None:
    assert arrivals(OPEN_POISSON, 500, 100, "3/7") == arrivals(OPEN_POISSON, 500, 100, "3/7")
    assert arrivals(OPEN_POISSON, 500, 100, "3/7") != arrivals(OPEN_POISSON, 500, 100, "3/8")


def test_the_workers_together_send_the_whole_schedule_and_nothing_twice() -> None:
    moments = arrivals(OPEN_POISSON, 500, 101, "seed")
    shares = [share(moments, worker, 3) for worker in range(3)]
    assert sorted(moment for part in shares for moment in part) == moments
    assert {len(part) for part in shares} == {33, 34}
