"""A figure with its interval: the geometric mean of a few measurements, and the ratio of two such means."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from report import intervals
from report.intervals import ALPHA


class Estimate(NamedTuple):
    """A figure and its interval; an end that nothing is known of is None."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def bounded(self) -> bool:
        """Return whether both ends are known."""
        return self.low is not None and self.high is not None

    def times(self, factor: float) -> "Estimate":
        """Return the figure in another unit."""
        return Estimate(self.value * factor, *(None if end is None else end * factor for end in self[1:]))


def geometric_mean(values: Sequence[float], autocorrelation: float = 0.0) -> Estimate:
    """Return the geometric mean of positive values with Student's 95 % interval, which takes two values."""
    logs = np.log(np.asarray(values, dtype=np.float64))
    mean = float(np.exp(logs.mean()))
    if len(logs) < 2:  # noqa: PLR2004
        return Estimate(mean)
    return Estimate(mean, *(float(np.exp(end)) for end in intervals.t_interval(logs, autocorrelation)))


def ratio(ours: Sequence[float], theirs: Sequence[float], alpha: float = ALPHA) -> Estimate:
    """Return the ratio of two geometric means of positive values that were measured apart, with its interval.

    Welch's, since nothing says that both scatter alike (Welch, The generalization of Student's problem when several
    different population variances are involved, Biometrika 34, 1947). It takes two values of each.
    """
    logs = [np.log(np.asarray(values, dtype=np.float64)) for values in (ours, theirs)]
    difference = float(logs[0].mean() - logs[1].mean())
    if min(map(len, logs)) < 2:  # noqa: PLR2004
        return Estimate(float(np.exp(difference)))
    parts = [float(each.var(ddof=1)) / len(each) for each in logs]
    error = sum(parts)
    if not error:
        return Estimate(*[float(np.exp(difference))] * 3)
    freedom = error**2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, logs, strict=True))
    reach = float(special.stdtrit(freedom, 1 - alpha / 2)) * error**0.5
    return Estimate(*(float(np.exp(difference + side * reach)) for side in (0, -1, 1)))
