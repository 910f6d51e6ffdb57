"""Many simulated runs of three sides, as validate-method has them, each until it is known or its time is up.

Sides a and b are alike, injected is slower. What is asked of the pairs and when a run ends is as in
report/sequential.py, in the same functions; here all runs are judged at once.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from report import intervals
from report.intervals import ALPHA, Array
from report.sequential import EARLY, LEVEL, known, needed
from report.spending import Look, Rule, sequential_p_values
from report.verdicts import MIN_ROUNDS
from studies.simulation.generators import Generator, Plan, measurement_levels, measurement_noise

# a and b, a and injected, b and injected.
PAIRS = ((0, 1), (0, 2), (1, 2))
INJECTED = 1  # of PAIRS: where a difference is to be found
SIDES = 3
Flags = npt.NDArray[np.bool_]


class Length(NamedTuple):
    """How a run goes: requests of a measurement, rounds of one p99, its looks up to the limit, seconds of a round."""

    requests: int
    split: int
    looks: tuple[Look, ...]
    round_s: float


def schedule(first: int, every: int, most: int) -> tuple[Look, ...]:
    """Return looks after `first` rounds and each `every` further ones, the last one after `most`."""
    rounds = [*range(first, most, every), most]
    return tuple(Look(number, number / most) for number in rounds)


class Outcome(NamedTuple):
    """What became of each run. alarm: a winner of a and b, on p50 or p99. found: a is faster than injected, on p50.

    covered: the interval of their p50 holds the true ratio. known: before the time was up. warned: it was not, and of a
    and injected that was said in the first half of it. rounds: until the end.
    """

    alarm: Flags
    found: Flags
    covered: Flags
    known: Flags
    warned: Flags
    rounds: Array

    @property
    def told(self) -> Flags:
        """Return whether the difference is found, or the machine was said to be too noisy."""
        return self.found | self.warned


def draw(kind: Generator, runs: int, length: Length, injected: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return log p50 and log p99 of each side: runs x sides x rounds, and x groups of `split` rounds."""
    size, split = Plan(runs, SIDES, length.looks[-1].rounds, length.requests), length.split
    groups = size._replace(rounds=size.rounds // split, requests=split * length.requests)
    noise = measurement_noise(kind.noise, size, rng)
    p50 = kind.shape.log_quantile(measurement_levels(size, rng)[0]) + noise
    shared = noise[..., : groups.rounds * split].reshape(runs, SIDES, groups.rounds, split).mean(axis=-1)
    tail = kind.noise.tail * rng.standard_normal(shared.shape)
    p99 = kind.shape.log_quantile(measurement_levels(groups, rng)[1]) + shared + tail
    for values in (p50, p99):
        values[:, -1] += injected
    return p50, p99


def play(drawn: tuple[Array, Array], length: Length, rule: Rule, wanted: float, injected: float) -> Outcome:
    """Return what becomes of runs that draw() gave."""
    p50, p99 = drawn
    runs, looks, p_values = len(p50), length.looks, list[Array]()
    found = _nothing(runs)
    going = np.ones(runs, dtype=bool)
    for number, look in enumerate(looks, start=1):
        at_p50 = _ratios(p50, look.rounds)
        at_p99 = _ratios(p99, look.rounds // length.split)
        p_values.append(np.concatenate([_p_values(at_p50), _p_values(at_p99)], axis=1))
        p_value = sequential_p_values(np.stack(p_values, axis=-1), looks[:number], rule)
        mean, reach = at_p50.mean(axis=-1), _reach(at_p50, float(rule(looks[:number], ALPHA)[-1]))
        settled = _settled(p_value, mean, reach, wanted)
        all_known = np.asarray(settled.all(axis=-1))
        last = number == len(looks)
        ends = going & (all_known | last)
        alike, slower = (_of_pair(p_value, pair) for pair in (0, INJECTED))
        found.alarm[ends] = (alike[:, 0] | alike[:, 1])[ends]
        found.found[ends] = (slower[:, 0] & (mean[:, 1] < 0))[ends]
        found.covered[ends] = (np.abs(mean[:, 1] + injected) <= reach[:, 1])[ends]
        found.known[ends] = all_known[ends]
        found.rounds[ends] = look.rounds
        going &= ~ends
        if look.share <= EARLY:
            told = np.logical_or(slower[:, 0], known(mean, reach, wanted)[:, INJECTED])
            times = np.where(told, 0, needed(mean, reach, wanted)[:, INJECTED])
            found.warned[going & (times * look.share > 1)] = True
    found.warned[found.known] = False
    return found


def _settled(p_value: Array, mean: Array, reach: Array, wanted: float) -> Flags:
    """Return whether each pair's p50 is known."""
    winner = intervals.holm(p_value)[:, : len(PAIRS)] <= LEVEL
    return np.asarray(np.logical_or(winner, known(mean, reach, wanted)), dtype=np.bool_)


def _of_pair(p_value: Array, pair: int) -> Flags:
    """Return whether a winner of the pair is named on p50 and on p99, by Holm over the two."""
    return np.asarray(intervals.holm(p_value[:, [pair, pair + len(PAIRS)]]) <= LEVEL, dtype=np.bool_)


def _nothing(runs: int) -> Outcome:
    alarm, found, covered, known_, warned = np.zeros((5, runs), dtype=np.bool_)
    return Outcome(alarm, found, covered, known_, warned, np.zeros(runs))


def _ratios(logs: Array, until: int) -> Array:
    return np.stack([logs[:, one, :until] - logs[:, other, :until] for one, other in PAIRS], axis=1)


def _leaning(ratios: Array) -> Array:
    """Return each run's autocorrelation, one value for all of its pairs."""
    shared = intervals.lag1_autocorrelation(ratios).mean(axis=-1, keepdims=True)
    return np.broadcast_to(shared, ratios.shape[:-1])


def _p_values(ratios: Array) -> Array:
    if ratios.shape[-1] < MIN_ROUNDS:
        return np.ones(ratios.shape[:-1])
    return intervals.t_p_value(ratios, _leaning(ratios))


def _reach(ratios: Array, nominal: float) -> Array:
    leaning = _leaning(ratios)
    error = intervals.standard_error(ratios, leaning)
    return np.asarray(intervals.t_quantile(1 - nominal / 2, ratios.shape[-1], leaning) * error)
