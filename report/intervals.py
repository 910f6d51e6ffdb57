"""What a mean over rounds can be trusted for: interval, p value, smallest difference that would have been found.

Everything here takes arrays whose last axis is the rounds, so that one run and 2,000 simulated ones go the same way.
`autocorrelation` is the correlation of a round with the one before; the rounds then count for fewer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

# The share of false alarms that is allowed, so that 1 - ALPHA is the confidence of every interval; and how often a
# difference as large as the smallest detectable one is found.
ALPHA = 0.05
POWER = 0.8
RESAMPLES = 4000
# However strongly rounds correlate with one another, they count for as many independent ones.
MIN_EFFECTIVE = 3

Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The bounds, each of the shape of the input without its last axis."""

    low: Array
    high: Array


def lag1_autocorrelation(values: Array) -> Array:
    """Return the lag-1 autocorrelation, corrected for its bias.

    With their own mean taken off, n values show about (1 + 4 r) / n too little (Marriott, Pope, Bias in the estimation
    of autocorrelations, Biometrika 41, 1954). Values that are all the same have none.
    """
    rounds = values.shape[-1]
    centred = values - values.mean(axis=-1, keepdims=True)
    shared, whole = (centred[..., 1:] * centred[..., :-1]).sum(axis=-1), (centred**2).sum(axis=-1)
    seen = np.divide(shared, whole, out=np.full(whole.shape, -1 / rounds), where=whole > 0)
    return np.asarray((rounds * seen + 1) / (rounds - 4))


def effective_sample_size(rounds: int, autocorrelation: Array | float) -> Array:
    """Return the effective sample size: n (1 - r) / (1 + r), at most n, at least MIN_EFFECTIVE.

    (Bayley, Hammersley, The effective number of independent observations in an autocorrelated time series, J. R.
    Statist. Soc. Suppl. 8, 1946; the limit of a long series.)
    """
    leaning = np.clip(autocorrelation, 0, 1)
    return np.asarray(np.maximum(rounds * (1 - leaning) / (1 + leaning), MIN_EFFECTIVE))


def standard_error(values: Array, autocorrelation: Array | float = 0.0) -> Array:
    """Return the standard error of the mean over the last axis (at least two values)."""
    return np.asarray(values.std(axis=-1, ddof=1) / np.sqrt(effective_sample_size(values.shape[-1], autocorrelation)))


def t_quantile(level: float, rounds: int, autocorrelation: Array | float = 0.0) -> Array:
    """Return the quantile of Student's t of a mean over rounds."""
    return np.asarray(special.stdtrit(effective_sample_size(rounds, autocorrelation) - 1, level))


def t_interval(values: Array, autocorrelation: Array | float = 0.0) -> Interval:
    """Return Student's interval of the mean (Student, The probable error of a mean, Biometrika 6, 1908)."""
    reach = t_quantile(1 - ALPHA / 2, values.shape[-1], autocorrelation) * standard_error(values, autocorrelation)
    mean = values.mean(axis=-1)
    return Interval(mean - reach, mean + reach)


def t_p_value(values: Array, autocorrelation: Array | float = 0.0) -> Array:
    """Return the two-sided p value of a mean of zero. Values that are all the same are certain: 1 if zero, else 0."""
    mean, error = values.mean(axis=-1), standard_error(values, autocorrelation)
    certain = np.where(mean == 0, 0.0, np.inf)
    statistic = np.divide(np.abs(mean), error, out=certain, where=error > 0)
    return np.asarray(2 * special.stdtr(effective_sample_size(values.shape[-1], autocorrelation) - 1, -statistic))


def bootstrap_interval(values: Array, seed: int) -> Interval:
    """Return the percentile bootstrap's interval of the mean: whole rounds are drawn again, RESAMPLES times.

    Percentile, not basic: its bounds stay the same bounds when the logarithm is undone (Efron, Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13).
    """
    rounds = values.shape[-1]
    drawn = np.random.default_rng(seed).integers(rounds, size=(RESAMPLES, rounds))
    drawn += rounds * np.arange(RESAMPLES)[:, np.newaxis]  # one count for all: the rounds of each resample are its own
    weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape) / rounds
    low, high = np.quantile(values @ weights.T, (ALPHA / 2, 1 - ALPHA / 2), axis=-1)
    return Interval(low, high)


def minimum_detectable_effect(values: Array, alpha: float, autocorrelation: Array | float = 0.0) -> Array:
    """Return the minimum detectable effect: the true mean that a two-sided test at `alpha` finds with POWER.

    (t[1 - alpha/2] + t[POWER]) standard errors (Bloom, Minimum detectable effects, Evaluation Review 19(5), 1995).
    """
    reach, luck = (t_quantile(level, values.shape[-1], autocorrelation) for level in (1 - alpha / 2, POWER))
    return np.asarray((reach + luck) * standard_error(values, autocorrelation))


def holm(p_values: npt.ArrayLike) -> Array:
    """Return Holm's adjusted p values over the last axis; one at or below ALPHA is a finding, whatever the others are.

    The smallest is multiplied by the number of hypotheses, the next by one less, and so on, never falling and at most 1
    (Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979).
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, axis=-1)
    scaled = np.take_along_axis(raw, order, axis=-1) * np.arange(raw.shape[-1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(scaled, axis=-1), 1)
    return np.asarray(np.take_along_axis(adjusted, np.argsort(order, axis=-1), axis=-1))


def at_most(successes: int, count: int, share: float) -> float:
    """Return the probability of at most `successes` among `count` independent draws with the chance `share` each."""
    return float(special.bdtr(successes, count, share))


def exact_interval(count: int, total: int) -> tuple[float, float]:
    """Return the exact interval of a share, `count` of `total` (Clopper, Pearson, Biometrika 26, 1934)."""
    if not 0 <= count <= total or not total:
        raise ValueError(
            f"{count} of {total} is not a proportion: it needs at least one trial, and no more successes than trials"
        )
    low = special.betaincinv(count, total - count + 1, ALPHA / 2) if count else 0.0
    high = special.betaincinv(count + 1, total - count, 1 - ALPHA / 2) if count < total else 1.0
    return float(low), float(high)
