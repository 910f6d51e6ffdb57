"""Which settings are measured next: asynchronous successive halving over a hill climb, a function of what was measured.

New settings are the best ones so far with one of them changed, and get few rounds. The best third of those that got so
many get more, where they are better than the default (asynchronous successive halving: Li et al., A System for
Massively Parallel Hyperparameter Tuning, 2020). Nothing is remembered but the trials, so a stopped search goes on.
"""

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadtest.tune.space import DEFAULT, Candidate, Space, Value, changed

# Rounds in all after which settings are looked at; the best of KEEP go on to the next number.
RUNGS = (2, 5, 10)
KEEP = 3
# Of the log ratios between rounds, until enough are known to tell.
EXPECTED_SPREAD = 0.1
# Draws of two changes at once before the neighbourhood counts as searched.
MAX_DRAWS = 100


class Round(NamedTuple):
    """One round: what the default and the candidate did, as the goal counts it; larger is better.

    limited: the load generator, not the servers, was what did not keep up.
    """

    default: float
    candidate: float
    limited: bool = False

    @property
    def log_ratio(self) -> float:
        """Return the logarithm of how many times as good as the default."""
        return math.log(self.candidate / self.default)


class Trial(NamedTuple):
    """Rounds of a candidate. out: why it is out, or empty. confirming: not for choosing, but after the choice."""

    candidate: Candidate
    rounds: tuple[Round, ...]
    out: str = ""
    confirming: bool = False

    @property
    def log_ratio(self) -> float:
        """Return the mean of its rounds' log ratios."""
        return statistics.fmean(each.log_ratio for each in self.rounds)


class Search:
    """Proposes candidates of a space; the same trials and seed give the same proposal."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._changes = [(name, value) for name, values in space.items() for value in values]
        random.Random(seed).shuffle(self._changes)  # noqa: S311 - an order, not a secret

    def next(self, trials: Sequence[Trial]) -> tuple[Candidate, int] | None:
        """Return what to measure next and in how many rounds; None where there is nothing more to learn."""
        standings = standings_of(trials)
        for enough, more in reversed(list(itertools.pairwise(RUNGS))):
            ranked = [each for each in standings if len(each.log_ratios) >= enough]
            for each in ranked[: len(ranked) // KEEP]:
                if len(each.log_ratios) < more and each.mean > 0:
                    return each.candidate, more - len(each.log_ratios)
        known = {trial.candidate for trial in trials} | {DEFAULT}
        bad, near = failing(trials), self._fresh(best(trials) or DEFAULT, len(known))
        fresh = next((each for each in near if each not in known and bad.isdisjoint(each)), None)
        return None if fresh is None else (fresh, RUNGS[0])

    def _fresh(self, best_so_far: Candidate, number: int) -> Iterator[Candidate]:
        """Yield the candidates near the best one: one change away, then two, drawn."""
        yield from (changed(best_so_far, *change) for change in self._changes)
        drawn = random.Random(f"{self._seed}/{number}")  # noqa: S311 - as above
        for _ in range(MAX_DRAWS if self._changes else 0):
            one, other = drawn.choice(self._changes), drawn.choice(self._changes)
            yield changed(changed(best_so_far, *one), *other)


class Standing(NamedTuple):
    """A candidate that is not out, with the log ratios of its rounds."""

    candidate: Candidate
    log_ratios: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean log ratio."""
        return statistics.fmean(self.log_ratios)


def standings_of(trials: Sequence[Trial], *, confirming: bool = False) -> list[Standing]:
    """Return the candidates by their rounds for choosing, or those after the choice; the best first."""
    out = {trial.candidate for trial in trials if trial.out}
    found: dict[Candidate, list[float]] = {}
    for trial in trials:
        if trial.candidate not in out and trial.confirming == confirming and trial.rounds:
            found.setdefault(trial.candidate, []).extend(each.log_ratio for each in trial.rounds)
    standings = [Standing(candidate, tuple(ratios)) for candidate, ratios in found.items()]
    return sorted(standings, key=lambda each: each.mean, reverse=True)


def failing(trials: Sequence[Trial]) -> set[tuple[str, Value]]:
    """Return the values that seem to be out by themselves: settings that were well are out with them."""
    well = {DEFAULT} | {trial.candidate for trial in trials if not trial.out}
    apart = [set(trial.candidate) - set(other) for trial in trials if trial.out for other in well]
    return {value for (value, *more) in filter(None, apart) if not more and (value,) not in well}


def best(trials: Sequence[Trial]) -> Candidate | None:
    """Return the candidate that is most surely better than the default, None where none seems so."""
    standings = standings_of(trials)
    apart = [(ratio - each.mean) ** 2 for each in standings for ratio in each.log_ratios]
    freedom = len(apart) - len(standings)
    spread = max(math.sqrt(sum(apart) / freedom), EXPECTED_SPREAD / 4) if freedom >= RUNGS[1] else EXPECTED_SPREAD
    sure = [(each.mean - spread / math.sqrt(len(each.log_ratios)), each.candidate) for each in standings]
    lower, candidate = max(sure, default=(0.0, DEFAULT), key=lambda pair: pair[0])
    return candidate if lower > 0 else None
