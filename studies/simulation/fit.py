"""The noise of real measurements, as a generator of simulated ones."""

import math

import numpy as np

from report import intervals
from report.intervals import Array
from report.percentiles import per_round
from report.verdicts import METRICS, MIN_ROUNDS, Latencies
from studies.simulation.generators import Generator, Noise, Plan, Tabulated, measurement_levels

LEVELS = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998, 0.999, 1.0)
FORM_LEVELS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 1.0)
MIN_MEASUREMENTS = 2
# Draws for the spread that percentiles have by chance alone.
DRAWS = 2000


def fit(latencies: Latencies) -> Generator:
    """Fit a generator whose measurements vary as these do; each measurement's own level is left out.

    From the log percentiles less the means of their measurement and their round: what is left is the measurement's own
    noise and the spread of a percentile by chance, which is known. The rounds' means are the machine's noise; what of
    it changes within a round is inconclusive from the measurements' own, and counts as that.

    Raises ValueError when fewer than MIN_ROUNDS rounds have every measurement's p99 or there are no MIN_MEASUREMENTS
    measurements.
    """
    p50, p99 = _whole_rounds(latencies)
    shape = fit_shape(latencies)
    by_chance = [float(shape.log_quantile(level).var()) for level in _levels(latencies)]
    own, rounds = variance(p50), p50.mean(axis=0)
    path = max(own - by_chance[0], 0.0)
    path_autocorrelation = float(intervals.lag1_autocorrelation(residuals(p50)).mean()) * own / path if path else 0.0
    noise = Noise(
        machine=math.sqrt(max(float(rounds.var(ddof=1)) - own / len(p50), 0)),
        machine_autocorrelation=_share(float(intervals.lag1_autocorrelation(rounds))) ** (1 / len(p50)),
        path=math.sqrt(path),
        path_autocorrelation=_share(path_autocorrelation),
        tail=math.sqrt(max(variance(p99) - path - by_chance[1], 0)),
        form=_quantiles(residuals(p50) / math.sqrt(own), FORM_LEVELS),
    )
    return Generator(shape, noise)


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _quantiles(values: Array, levels: tuple[float, ...]) -> Tabulated:
    return Tabulated(levels, tuple(round(float(value), 4) for value in np.quantile(values, levels)))


def _whole_rounds(latencies: Latencies) -> tuple[Array, Array]:
    logs = [np.log([per_round(each, percent) for each in latencies.values()]) for percent in METRICS.values()]
    whole = ~np.isnan(logs).any(axis=(0, 1))
    if whole.sum() < MIN_ROUNDS or len(latencies) < MIN_MEASUREMENTS:
        seen = f"{whole.sum()} rounds of {len(latencies)} measurements, each with enough correct responses"
        raise ValueError(f"{seen}, are too few for a fit: {MIN_ROUNDS} rounds of {MIN_MEASUREMENTS} are needed")
    return logs[0][:, whole], logs[1][:, whole]


def _levels(latencies: Latencies) -> list[Array]:
    requests = int(np.median([len(samples) for rounds in latencies.values() for samples in rounds]))
    return measurement_levels(Plan(1, 1, DRAWS, requests), np.random.default_rng(0))


def fit_shape(latencies: Latencies) -> Tabulated:
    """Return the quantiles of log latency over its measurement's median, all measurements together."""
    logs = [np.log(samples / np.median(samples)) for rounds in latencies.values() for samples in rounds if len(samples)]
    return _quantiles(np.concatenate(logs), LEVELS)


def residuals(values: Array) -> Array:
    """Return values (measurements x rounds) less the means of their measurement and of their round."""
    return np.asarray(values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean())


def variance(values: Array) -> float:
    """Return the variance of the residuals of measurements x rounds values."""
    measurements, rounds = values.shape
    return float((residuals(values) ** 2).sum() / ((measurements - 1) * (rounds - 1)))
