"""What a number of requests proves about a share: bounds from the binomial distribution, nothing assumed of latencies.

The p99 is at most the objective when at most 1 % of all requests, those that were not sent included, are over it. So
counting the requests over it is enough, and is the same as a bound by order statistics: the upper 99 % confidence bound
of the p99 is the sample with `most_over(count)` samples above it. MLPerf LoadGen's early stopping is this rule
(https://github.com/mlcommons/inference/blob/master/loadgen/early_stopping.md).
"""

import math
from functools import cache

from scipy import special

TAIL = 0.01  # of a p99
CHANCE = 0.01  # of a certificate that is wrong, as LoadGen has it
# Errors: no error in 2,995 requests shows, at 95 % confidence, that fewer than 0.1 % fail.
MAX_ERRORS, ERRORS_CHANCE = 0.001, 0.05
ERROR_FREE = 2995
MIN_S = 1.5  # of a trial


def at_most(successes: int, count: int, share: float) -> float:
    """Return the chance of at most `successes` among `count` draws, each with the chance `share`."""
    return float(special.bdtr(successes, count, share))


@cache
def most_over(count: int) -> int:
    """Return the most of `count` requests that may miss the objective for it to be certainly met; -1: too few."""
    found = -1
    while at_most(found + 1, count, TAIL) <= CHANCE:
        found += 1
    return found


@cache
def least_over(count: int) -> int:
    """Return how many of `count` requests must miss the objective to show for certain that it is not met."""
    found = math.ceil(count * TAIL)
    while 1 - at_most(found - 1, count, TAIL) > CHANCE:
        found += 1
    return found


def few_errors(errors: int, count: int) -> bool:
    """Return whether `errors` among `count` requests show that fewer than 0.1 % fail."""
    return at_most(errors, count, MAX_ERRORS) <= ERRORS_CHANCE


def requests_of(rate: float) -> int:
    """Return the number of requests of a trial at a rate."""
    return max(ERROR_FREE, math.ceil(rate * MIN_S))
