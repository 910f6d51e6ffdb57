"""Percentiles as order statistics, and how many samples each needs before it may be shown.

Definition (nearest rank): the p-quantile of n sorted samples is the one at rank ceil(p * n), counted from 1. It is a
latency that was observed; nothing is interpolated.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from report.intervals import at_most

# 99 % confidence, one sample allowed above, as MLPerf LoadGen's early stopping has it.
CONFIDENCE = 0.99

Samples = Sequence[float] | npt.NDArray[np.floating[Any]]


def rank_of(percent: str, count: int) -> int:
    """Return the rank, from 1, of a percentile ("99.9") among `count` samples."""
    return max(math.ceil(Fraction(percent) / 100 * count), 1)  # in floats, 0.999 * 1000 may be above 999


def nearest_rank(ordered: Samples, percent: str) -> float:
    """Return a percentile of samples in ascending order. Raises IndexError when there are none."""
    return float(ordered[rank_of(percent, len(ordered)) - 1])


@cache
def minimum_samples(percent: str) -> int:
    """Return the smallest number of samples at which a percentile may be shown.

    It is the smallest n at which at most one sample above the true percentile comes by chance in at most 1 % of runs:
    q**n + n * (1 - q) * q**(n - 1) <= 0.01 for the quantile q. 64 for p90, 662 for p99, 6,636 for p99.9
    (https://github.com/mlcommons/inference/blob/master/loadgen/early_stopping.md).
    """
    quantile = float(Fraction(percent) / 100)
    low, high = 1, 1
    while _chance(quantile, high) > 1 - CONFIDENCE:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _chance(quantile, middle) > 1 - CONFIDENCE else (low, middle)
    return low


def _chance(quantile: float, count: int) -> float:
    """Return the probability of at most one sample above the quantile."""
    return at_most(1, count, 1 - quantile)


def percentile(ordered: Samples, percent: str) -> float | None:
    """Return a percentile of samples in ascending order, or None below its minimum sample count."""
    return nearest_rank(ordered, percent) if len(ordered) >= minimum_samples(percent) else None


def percentile_ms(ordered_us: Samples, percent: str) -> float | None:
    """Return a percentile of microseconds in milliseconds, to 0.1 us, or None below its minimum sample count."""
    found = percentile(ordered_us, percent)
    return None if found is None else round(found / 1e3, 4)


def per_round(rounds: Sequence[Samples], percent: str) -> npt.NDArray[np.float64]:
    """Return the percentile of each round's samples, in any order; NaN below its minimum sample count."""
    found = [percentile(np.sort(np.asarray(samples, dtype=np.float64)), percent) for samples in rounds]
    return np.array([math.nan if value is None else value for value in found])


def pooled(rounds: Sequence[Samples], percent: str) -> float | None:
    """Return the percentile of all rounds' samples together, for display: no interval is made from it."""
    return percentile(np.sort(np.concatenate([np.empty(0), *rounds])), percent)
