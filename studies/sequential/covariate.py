"""Whether the no-op server, measured in the same round, makes a ratio better known.

Dividing both sides of a ratio by it changes nothing: it cancels. As a covariate, its log p50 is what the log ratios are
regressed on (least squares, Student's t with a degree of freedom less): the interval is then that of the ratio at the
run's mean state of the machine. It helps by as much as the two sides feel the machine differently.
"""

import numpy as np
from scipy import special

from report import intervals
from report.intervals import ALPHA, Array
from studies.simulation.generators import Generator, Noise, Plan, measurement_noise

ROUNDS = 60


def width(kind: Generator, feels: tuple[float, float], runs: int, seed: int) -> float:
    """Return the mean width of intervals with the covariate to that without; the sides feel so much of the machine."""
    rng, plan = np.random.default_rng(seed), Plan(runs, 3, ROUNDS, 1)
    machine = measurement_noise(Noise(kind.noise.machine, kind.noise.machine_autocorrelation), plan, rng)
    own = measurement_noise(kind.noise._replace(machine=0.0, drift=0.0), plan, rng)
    felt = machine * np.array([*feels, 1.0])[:, np.newaxis] + own
    ratios, null = felt[:, 0] - felt[:, 1], felt[:, 2]
    without = special.stdtrit(ROUNDS - 1, 1 - ALPHA / 2) * intervals.standard_error(ratios)
    reach = special.stdtrit(ROUNDS - 2, 1 - ALPHA / 2) * _residual(ratios, null) / np.sqrt(ROUNDS)
    return float((reach / without).mean())


def _residual(ratios: Array, null: Array) -> Array:
    """Return the standard deviation of what a straight line of the no-op server's logs leaves of the ratios'."""
    y, x = (values - values.mean(axis=-1, keepdims=True) for values in (ratios, null))
    slope = (x * y).sum(axis=-1, keepdims=True) / (x**2).sum(axis=-1, keepdims=True)
    return np.asarray(np.sqrt(((y - slope * x) ** 2).sum(axis=-1) / (ROUNDS - 2)))
