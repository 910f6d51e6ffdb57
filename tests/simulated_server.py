"""Servers whose capacity is known: one queue, Poisson arrivals, in arithmetic instead of in time."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from loadtest.capacity import certify
from loadtest.capacity.search import Outcome, Result, verdict

RAMP_UP_S = 0.15
PER_S = 3000.0
SLO_S = 0.005
# M/M/1: response times are exponential with the rate PER_S - arrivals, so the p99 is ln(100) / (PER_S - arrivals).
CAPACITY = PER_S - math.log(100) / SLO_S

Array = npt.NDArray[np.float64]


def responses_s(random: np.random.Generator, rate: float, count: int) -> Array:
    """Return the response times of a queue before one server with exponential service times (Lindley, 1952)."""
    count += (ramp_up := round(rate * RAMP_UP_S))
    gaps_s, service_s = random.exponential(1 / rate, count), random.exponential(1 / PER_S, count)
    sums = np.cumsum(np.concatenate([[0.0], service_s[:-1] - gaps_s[1:]]))
    waits_s = sums - np.minimum.accumulate(sums)
    response_s: Array = (waits_s + service_s)[ramp_up:]
    return response_s


class SimulatedServer:
    """Answers tries, and counts how long they would take. beyond: the generator can send no more than that."""

    def __init__(self, seed: int, time_s: float = 60.0, beyond: float = math.inf) -> None:
        self._random = np.random.default_rng(seed)
        self._time_s = time_s
        self._beyond = beyond
        self.took_s = 0.0
        self.draw: Callable[[np.random.Generator, float, int], Array] = responses_s

    def left_s(self) -> float:
        return self._time_s - self.took_s

    def attempt(self, rate: float) -> Result:
        planned = certify.requests_of(rate)
        over = np.cumsum(self.draw(self._random, rate, planned) > SLO_S)
        count = min(planned, max(int(np.searchsorted(over, planned / 10)) + 1, round(rate / 2)))
        self.took_s += RAMP_UP_S * 2 + count / rate
        found = int(over[count - 1])
        if rate > self._beyond:
            return Result(Outcome.INVALID, found, count)
        return Result(verdict(found, count, planned), found, count)
