"""Rules that were tried, beside the one that was taken (report/spending.py)."""

import math
from functools import partial

import numpy as np
from scipy import special

from report.intervals import Array
from report.spending import Look, Rule, in_proportion, nominal_levels

# The confidence sequence of 95 % is narrowest after about so many rounds, by that width of its mixture.
NARROWEST, WIDTH = 100, -2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))


def obrien_fleming(share: float, level: float) -> float:
    """Return how much of a level may be spent by then: next to nothing early, almost all of it is left for the end."""
    return float(4 * special.ndtr(special.ndtri(level / 4) / math.sqrt(share)))


def pocock(share: float, level: float) -> float:
    """Return how much of a level may be spent by then: about as much at every look."""
    return level * math.log1p((math.e - 1) * share)


def confidence_sequence(looks: tuple[Look, ...], level: float) -> Array:
    """Return the p value that a look must reach if there may be any number of looks, at any time.

    By a mixture of normal distributions (Robbins, Statistical methods related to the law of the iterated logarithm,
    Ann. Math. Statist. 41, 1970).
    """
    sizes = WIDTH / NARROWEST * np.array([look.rounds for look in looks])
    squares = (sizes + 1) / sizes * (np.log1p(sizes) - 2 * math.log(level))
    return np.asarray(2 * special.ndtr(-np.sqrt(squares)))


RULES: dict[str, Rule] = {
    "in proportion to time": partial(nominal_levels, spending=in_proportion),
    "Pocock-like": partial(nominal_levels, spending=pocock),
    "O'Brien-Fleming-like": partial(nominal_levels, spending=obrien_fleming),
    "confidence sequence": confidence_sequence,
}
