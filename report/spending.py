"""How sure a look at an unfinished run must be, so that many looks together err no more often than one would.

A false alarm may happen at any look, so each look gets a part of the level: what an alpha-spending function of the time
that has passed says (Lan, DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983; spending by
the calendar: the same, Statistics in Medicine 8, 1989). How large a part that is as a p value, looks being correlated,
comes from the recursion of Armitage, McPherson and Rowe (J. R. Statist. Soc. A 132, 1969). Student's t then takes the
normal distribution's place at the same p value (Jennison, Turnbull, Group Sequential Methods, 2000, section 3.8).
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from report.intervals import Array

# Beyond so many standard deviations nothing is found: a look that may spend next to nothing finds nothing.
FAR = 8.0
# Where the density of what has not been found yet is kept, and the halvings that find a bound (to 8 / 2**40).
NODES, HALVINGS = 128, 40
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(NODES)
# Levels at which bounds are worked out; sequential p values lie between them.
LEVELS = np.concatenate([np.logspace(-9, -2, 8), (0.025, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)])


class Look(NamedTuple):
    """A look after so many rounds, when that share of the time limit had passed; the last look has share 1."""

    rounds: int
    share: float


Spending = Callable[[float, float], float]
# From looks and a level to the p value that each look must reach.
Rule = Callable[[tuple[Look, ...], float], Array]


def in_proportion(share: float, level: float) -> float:
    """Return how much of a level may be spent by then: the share of the time (Kim, DeMets, Biometrika 74, 1987)."""
    return level * share


class _State(NamedTuple):
    """After a look: level spent, bound as p value, and the sums of rounds that found nothing, with their density."""

    spent: float
    nominal: float
    sums: Array
    density: Array


def nominal_levels(looks: tuple[Look, ...], level: float, spending: Spending = in_proportion) -> Array:
    """Return the two-sided p value that each look must reach, so that all together err in `level` of runs at most.

    looks: ascending in rounds and share.
    """
    return np.array([_after(looks[: number + 1], level, spending).nominal for number in range(len(looks))])


@cache
def _after(looks: tuple[Look, ...], level: float, spending: Spending) -> _State:
    *earlier, (rounds, share) = looks
    last = _after(tuple(earlier), level, spending) if earlier else _State(0.0, 1.0, np.empty(0), np.empty(0))
    step = math.sqrt(rounds - (earlier[-1].rounds if earlier else 0))
    spent = spending(min(share, 1.0), level)
    bound = _bound(math.sqrt(rounds), step, spent - last.spent, last)
    sums = bound * POINTS
    density = np.exp(-(((sums[:, np.newaxis] - last.sums) / step) ** 2) / 2) @ last.density
    if not earlier:
        density = np.exp(-((sums / step) ** 2) / 2)
    density *= bound * WEIGHTS / (step * math.sqrt(2 * math.pi))
    return _State(spent, float(2 * special.ndtr(-bound / math.sqrt(rounds))), sums, density)


def _bound(root: float, step: float, may: float, last: _State) -> float:
    """Return the sum beyond which a share `may` of runs gets at this look and did not before."""
    low, high = 0.0, FAR * root
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(middle, step, last) > may else (low, middle)
    return high


def _beyond(bound: float, step: float, last: _State) -> float:
    if not len(last.sums):
        return float(2 * special.ndtr(-bound / step))
    both = special.ndtr((-bound - last.sums) / step) + special.ndtr((last.sums - bound) / step)
    return float(last.density @ both)


def sequential_p_values(p_values: Array, looks: tuple[Look, ...], rule: Rule = nominal_levels) -> Array:
    """Return the smallest level at which a look so far has found something; the looks are the last axis."""
    return np.asarray(levels_by_look(p_values, looks, rule).min(axis=-1))


def levels_by_look(p_values: Array, looks: tuple[Look, ...], rule: Rule = nominal_levels) -> Array:
    """Return the smallest level at which each look has found something; the looks are the last axis.

    The smallest of them is a p value whatever made the looks end (Liu, Anderson, J. Am. Statist. Assoc. 103, 2008), so
    that Holm's correction may follow. None is below the smallest of LEVELS.
    """
    nominal = np.log([rule(looks, float(level)) for level in LEVELS])
    logs = np.log(np.maximum(p_values, np.finfo(float).tiny))
    found = [np.interp(logs[..., number], nominal[:, number], np.log(LEVELS)) for number in range(len(looks))]
    return np.asarray(np.exp(np.stack(found, axis=-1)))
