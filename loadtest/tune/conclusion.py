"""What a search shows: the best settings, how many times as good as the default they are, and how sure that is."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

from loadtest.tune.loop import CONFIRM_TRIALS
from loadtest.tune.search import Trial, best
from loadtest.tune.space import DEFAULT, Candidate

# Of intervals that miss, however often a search is given again and looked at; most of it is the first look's.
CHANCE, FIRST_SHARE = 0.05, 0.8
# Of rounds that are all of the search itself: fewer bound nothing.
MIN_ROUNDS = 5


class Conclusion(NamedTuple):
    """What came of a search. candidate: the best one, whether or not it is used.

    low, high: the interval of the ratio to the default; 0 and infinity where too little bounds nothing. confirmed:
    it is from starts that the choice did not look at, and of those starts' means; otherwise it is too good. limited:
    rounds in which the load generator did not keep up.
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


def conclude(trials: Sequence[Trial], look: int = 1) -> Conclusion:
    """Conclude from the trials of a search that ended or was cut short.

    look: how many confirmed conclusions there are with this one, which has its part of the chance to miss.
    """
    tried = len({trial.candidate for trial in trials})
    candidate = best(trials)
    if candidate is None:
        return Conclusion(DEFAULT, 1.0, 1.0, 1.0, 0, confirmed=False, trials=tried, limited=0)
    after = [each for each in trials if each.candidate == candidate and each.confirming and each.rounds]
    confirmed = len(after) >= CONFIRM_TRIALS
    counted = after if confirmed else [each for each in trials if each.candidate == candidate]
    rounds = [one.log_ratio for each in counted for one in each.rounds]
    # Rounds of one start share what that start is like: a start is one observation.
    values = [each.log_ratio for each in after] if confirmed else rounds
    fewest, chance = (CONFIRM_TRIALS, chance_of(look)) if confirmed else (MIN_ROUNDS, CHANCE)
    mean, half = statistics.fmean(values), half_width(values, fewest, chance)
    limited = sum(each.limited for trial in trials if trial.candidate == candidate for each in trial.rounds)
    low, high = (0.0, math.inf) if math.isinf(half) else (math.exp(mean - half), math.exp(mean + half))
    return Conclusion(candidate, math.exp(mean), low, high, len(rounds), confirmed, trials=tried, limited=limited)


def chance_of(look: int) -> float:
    """Return the chance to miss of the interval at a look, counted from 1: 4 %, 0.5 %, 0.25 %, and so on by halves.

    Together they miss with at most 5 %, however many looks there are and however their trials overlap (Bonferroni's
    inequality with unequal parts; look by look, as Lan and DeMets spend it, Biometrika 70, 1983).
    """
    return CHANCE * (FIRST_SHARE if look == 1 else (1 - FIRST_SHARE) / 2 ** (look - 1))


def half_width(values: Sequence[float], fewest: int, chance: float = CHANCE) -> float:
    """Return half of the mean's interval by Student's t, infinite for less than the fewest values."""
    if len(values) < fewest:
        return math.inf
    t = float(special.stdtrit(len(values) - 1, 1 - chance / 2))
    return t * statistics.stdev(values) / math.sqrt(len(values))
