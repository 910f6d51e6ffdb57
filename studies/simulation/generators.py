"""How simulated measurements come about.

The shape of a measurement's latencies, and the noise that differs from measurement to measurement.

Requests inside a measurement are independent draws; whatever they share is the measurement's noise. So a measurement's
percentiles need not be cut from drawn latencies: the k-th smallest of n uniform draws has a beta distribution, exactly
(David, Nagaraja, Order Statistics, 3rd edition, 2003, section 2.3). All values are natural logarithms, in which a
factor is a shift.
"""

from typing import NamedTuple, Protocol

import numpy as np
from scipy import special

from report.intervals import Array
from report.percentiles import rank_of
from report.verdicts import METRICS

TAIL_FROM = 0.95


class Shape(Protocol):
    """What the latencies of one measurement look like."""

    def log_quantile(self, levels: Array) -> Array:
        """Return the logarithm of latency over median at each level, 0 to 1."""
        ...


class Lognormal(NamedTuple):
    """A lognormal body, and a share of requests that are spikes: `factor` times as long, spread as the body is."""

    spread: float
    spikes: float = 0.0
    factor: float = 1.0

    def log_quantile(self, levels: Array) -> Array:
        """Return the quantiles by turning the distribution function round, in steps of a thousandth of the spread."""
        far = np.log(self.factor)
        logs = np.arange(-7 * self.spread, far + 7 * self.spread, self.spread / 1000)
        body, spike = special.ndtr(logs / self.spread), special.ndtr((logs - far) / self.spread)
        return np.interp(levels, (1 - self.spikes) * body + self.spikes * spike, logs)


class Tabulated(NamedTuple):
    """Quantiles that were measured, straight lines between them."""

    levels: tuple[float, ...]
    logs: tuple[float, ...]

    def log_quantile(self, levels: Array) -> Array:
        """Return the quantiles at `levels`."""
        return np.interp(levels, self.levels, self.logs)


class Noise(NamedTuple):
    """By how much whole measurements are off.

    Standard deviations of logarithms, and memories (correlations with the last).

    machine: shared by all measurements, in the order in which they ran, with the memory from measurement to
    measurement. path: each measurement for itself, with the memory from round to round; normal, or of another form
    (quantiles of variance 1) where something disturbs a few measurements much. tail: the same, for the p99 alone,
    normal and without memory. drift: how much slower everything is at the run's end.
    """

    machine: float = 0.0
    machine_autocorrelation: float = 0.0
    path: float = 0.0
    path_autocorrelation: float = 0.0
    tail: float = 0.0
    drift: float = 0.0
    form: Tabulated | None = None


class Generator(NamedTuple):
    """One kind of run."""

    shape: Shape
    noise: Noise


class Plan(NamedTuple):
    """The size of a run; every run is one of `runs` drawn at once."""

    runs: int
    measurements: int
    rounds: int
    requests: int


def log_percentiles(generator: Generator, plan: Plan, rng: np.random.Generator) -> Array:
    """Return every measurement's p50 and p99, of the same true latency in all measurements.

    Runs x metrics x measurements x rounds.
    """
    levels = measurement_levels(plan, rng)
    noise = measurement_noise(generator.noise, plan, rng)
    found = np.stack([generator.shape.log_quantile(level) + noise for level in levels], axis=1)
    found[:, list(METRICS).index("p99")] += generator.noise.tail * rng.standard_normal(noise.shape)
    return found


def measurement_levels(plan: Plan, rng: np.random.Generator) -> list[Array]:
    """Return the levels of the true distribution at each measurement's percentiles, by metric, ascending."""
    size, found = (plan.runs, plan.measurements, plan.rounds), []
    level, rank = np.zeros(size), 0
    for percent in METRICS.values():
        higher = rank_of(percent, plan.requests)
        level = level + (1 - level) * rng.beta(higher - rank, plan.requests - higher + 1, size)
        rank = higher
        found.append(level)
    return found


def measurement_noise(noise: Noise, plan: Plan, rng: np.random.Generator) -> Array:
    """Return each measurement's deviation, their order drawn for each round: runs x measurements x rounds."""
    runs, measurements, rounds, _ = plan
    machine = noise.machine * autoregressive((runs, rounds * measurements), noise.machine_autocorrelation, rng)
    machine += noise.drift * np.linspace(0, 1, rounds * measurements)
    shuffled = rng.permuted(machine.reshape(runs, rounds, measurements), axis=-1)
    own = autoregressive((runs * measurements, rounds), noise.path_autocorrelation, rng).reshape(
        runs, measurements, rounds
    )
    if noise.form:
        own = noise.form.log_quantile(special.ndtr(own))
    return np.asarray(np.swapaxes(shuffled, 1, 2) + noise.path * own)


def autoregressive(size: tuple[int, int], memory: float, rng: np.random.Generator) -> Array:
    """Return AR(1) series (last axis) of mean 0 and variance 1 with the lag-1 autocorrelation `memory`."""
    news = rng.standard_normal(size)
    news[:, 1:] *= np.sqrt(1 - memory**2)
    for step in range(1, size[1]):
        news[:, step] += memory * news[:, step - 1]
    return news


def draw_latencies(generator: Generator, plan: Plan, rng: np.random.Generator) -> list[list[Array]]:
    """Return one run's single latencies, median 1,000 us: for each measurement one array per round.

    The noise of the tail shifts what is above the 95th percentile.
    """
    alone = plan._replace(runs=1)
    noise = measurement_noise(generator.noise, alone, rng)[0, ..., np.newaxis]
    levels = rng.uniform(size=(plan.measurements, plan.rounds, plan.requests))
    tail = generator.noise.tail * rng.standard_normal(noise.shape)
    drawn = 1000 * np.exp(generator.shape.log_quantile(levels) + noise + np.where(levels > TAIL_FROM, tail, 0))
    return [list(measurement) for measurement in drawn]
