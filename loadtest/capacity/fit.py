"""At which rate the p99 crosses the objective: a logistic curve through all trials, and its interval.

The share of requests over the objective grows with the rate; where it is 1 %, the p99 is the objective. Requests of one
trial share a queue and depend on one another, so a trial, not a request, is the observation: the trials' scatter round
the curve (Pearson's dispersion of a quasi-binomial fit; McCullagh and Nelder, Generalized Linear Models, 1989, section
4.5) widens the interval, which is Fieller's for the ratio of the two estimates, with Student's t.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from loadtest.capacity.certify import TAIL

# Two-sided, as the certificates: 1 % wrong.
CONFIDENCE = 0.99
# Expected of the slope against the logarithm of the rate, so that scatter alone does not turn it: a doubling of the
# share with 5 % more requests. An M/M/1 queue's is the objective times its rate: 10 at 5 ms and 2,000 a second.
SLOPE, SLOPE_SPREAD = 15.0, 5.0
EXPECTED = np.array([math.log(TAIL / (1 - TAIL)), SLOPE])
# Of the curve's height next to nothing is expected: +-100, so that there always is a solution.
PRIOR = np.diag([1 / 100.0**2, 1 / SLOPE_SPREAD**2])
PASSES = 3
MIN_TRIALS = 6
MAX_TURNS, SMALLEST = 30, 1e-6

Array = npt.NDArray[np.float64]


class Point(NamedTuple):
    """one trial: `over` of its requests were over the objective."""

    rate: float
    over: int
    requests: int


class Crossing(NamedTuple):
    """Requests a second; 0 and infinity where the trials show no bound."""

    low: float
    rate: float
    high: float


def crossing(points: Sequence[Point]) -> Crossing | None:
    """Return where the curve through the trials crosses 1 %, or None: too few trials or all on one side."""
    shares = [point.over / point.requests for point in points]
    if len(points) < MIN_TRIALS or not min(shares) < TAIL < max(shares):
        return None
    logs = np.log([point.rate for point in points])
    x = np.stack([np.ones(len(points)), logs - logs.mean()], axis=1)
    # Half a request more each: a share of 0 has a logarithm, too.
    over, count = (np.array([point[column] for point in points]) + 0.5 * column for column in (1, 2))
    beta, spread = _fit(x, over, count)
    low, middle, high = _fieller(math.log(TAIL / (1 - TAIL)) - beta[0], beta[1], spread, len(points) - 2)
    back = math.exp(logs.mean())
    return Crossing(back * math.exp(low), back * math.exp(middle), back * math.exp(min(high, 700.0)))


def _fit(x: Array, over: Array, count: Array) -> tuple[Array, Array]:
    """Return intercept, slope and their covariance. Dispersion weakens the trials against the expected slope."""
    dispersion = 1.0
    for _ in range(PASSES):
        beta = _newton(x, over / dispersion, count / dispersion)
        share = special.expit(x @ beta)
        weight = count * share * (1 - share)
        # No less than a request each: far down a steep curve next to none is expected, and one would seem a miracle.
        misfit = float(((over - count * share) ** 2 / np.maximum(weight, 1.0)).sum())
        dispersion = max(1.0, misfit / (len(x) - 2))
    spread = np.linalg.inv((x.T * weight) @ x / dispersion + PRIOR).astype(np.float64)
    return beta, spread


def _newton(x: Array, over: Array, count: Array) -> Array:
    beta = EXPECTED
    for _ in range(MAX_TURNS):
        share = special.expit(x @ beta)
        weight = count * share * (1 - share)
        step = np.linalg.solve((x.T * weight) @ x + PRIOR, x.T @ (over - count * share) - PRIOR @ (beta - EXPECTED))
        # Halved until it leads down: far from the solution the curve is flat, and a whole step leads away.
        size, here = 1.0, _loss(x, over, count, beta)
        while size > SMALLEST and not _loss(x, over, count, beta + size * step) <= here:
            size /= 2
        beta = beta + size * step
    return beta


def _loss(x: Array, over: Array, count: Array, beta: Array) -> float:
    """Return the negative logarithm of the likelihood, and of what is expected."""
    logits, apart = x @ beta, beta - EXPECTED
    return float((count * np.logaddexp(0, logits) - over * logits).sum() + apart @ PRIOR @ apart / 2)


def _fieller(above: float, slope: float, spread: Array, freedom: int) -> tuple[float, float, float]:
    """Return the interval of `above / slope`, the second with its estimate; unbounded where the slope may be 0."""
    t = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
    square = slope**2 - t**2 * spread[1, 1]
    linear = above * slope + t**2 * spread[0, 1]
    under = linear**2 - square * (above**2 - t**2 * spread[0, 0])
    if slope <= 0 or square <= 0 or under < 0:
        return -math.inf, above / slope if slope else 0.0, math.inf
    return (linear - math.sqrt(under)) / square, above / slope, (linear + math.sqrt(under)) / square
