"""What a search shows: the best settings, how many times as good as the default they are, and how sure that is."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

from loadtest.tune.loop import MIN_ROUNDS
from loadtest.tune.search import Standing, Trial, best, standings_of
from loadtest.tune.space import DEFAULT, Candidate

CONFIDENCE = 0.95


class Conclusion(NamedTuple):
    """What came of a search. candidate: the best one, whether or not it is used.

    low, high: the interval of the ratio to the default; 0 and infinity where too few rounds bound nothing. confirmed:
    it is from rounds that the choice did not look at; otherwise it is too good. limited: rounds in which the load
    generator did not keep up.
    """

    candidate: Candidate
    ratio: float
    low: float
    high: float
    rounds: int
    confirmed: bool
    trials: int
    limited: int

    @property
    def settings(self) -> Candidate:
        """Return the settings to use: the default's where the others were not confirmed or may be no better."""
        return self.candidate if self.confirmed and self.low > 1 else DEFAULT


def conclude(trials: Sequence[Trial]) -> Conclusion:
    """Conclude from the trials of a search that ended or was cut short."""
    tried = len({trial.candidate for trial in trials})
    candidate = best(trials)
    if candidate is None:
        return Conclusion(DEFAULT, 1.0, 1.0, 1.0, 0, confirmed=False, trials=tried, limited=0)
    after = _standing(trials, candidate, confirming=True)
    confirmed = len(after.log_ratios) >= MIN_ROUNDS
    before = _standing(trials, candidate, confirming=False)
    standing = after if confirmed else Standing(candidate, before.log_ratios + after.log_ratios)
    mean, half = standing.mean, half_width(standing.log_ratios)
    limited = sum(each.limited for trial in trials if trial.candidate == candidate for each in trial.rounds)
    low, high = (0.0, math.inf) if math.isinf(half) else (math.exp(mean - half), math.exp(mean + half))
    return Conclusion(
        candidate, math.exp(mean), low, high, len(standing.log_ratios), confirmed, trials=tried, limited=limited
    )


def half_width(values: Sequence[float]) -> float:
    """Return half of the mean's interval by Student's t, infinite where there are too few values."""
    if len(values) < MIN_ROUNDS:
        return math.inf
    t = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    return t * statistics.stdev(values) / math.sqrt(len(values))


def _standing(trials: Sequence[Trial], candidate: Candidate, *, confirming: bool) -> Standing:
    found = standings_of(trials, confirming=confirming)
    return next((each for each in found if each.candidate == candidate), Standing(candidate, ()))
