"""The search for the highest rate that keeps the objective: which rate is tried next, and what the trials show.

Rates are those of a grid, PER_OCTAVE to a doubling. A staircase climbs from FIRST_RPS by doubling: up after a trial
with at most 1 % of its requests over the objective, down after another one. Its stride is halved where it turns, and
doubled when it has gone the same way for long; so it comes back after a trial that a noisy machine spoiled. Its last
trials lie on both sides of where the p99 crosses the objective, and a curve through them says where (fit.py). The rate
that is given is below that, and certified by two trials, at it or above.
"""

import enum
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from loadtest.capacity.certify import TAIL, least_over, most_over, requests_of
from loadtest.capacity.fit import Crossing, Point, crossing

PER_OCTAVE = 12  # neighbours are 5.9 % apart
HALF_A_PLACE = 2 ** (1 / (2 * PER_OCTAVE))
FIRST_RPS = 500.0
LOWEST, HIGHEST = -2 * PER_OCTAVE, 8 * PER_OCTAVE  # 125 to 128,000 a second
NARROWEST = 2  # of the strides: nearer trials would tell the curve's slope worse
LONG = 3  # so many trials the same way double the stride
NEAR = 8  # places from the staircase's middle: what is further away does not lie on one curve with it
AGREE = 2
# A pause of the machine spoils a trial; so often at one rate it is not by chance.
MAX_INVALID = 4
CERTIFY_SHARE = 0.25  # of the search's time


class Outcome(enum.StrEnum):
    """What one trial at one rate shows."""

    MET = "met"  # certified
    UNSURE = "unsure"
    NOT_MET = "not met"  # certified
    INVALID = "invalid"  # the instrument was not good enough to tell
    WRONG = "wrong answers"


class Limit(enum.StrEnum):
    """What a path's capacity is given by."""

    SERVER = "server"
    GENERATOR = "generator"  # the server may do more
    TIME = "time"  # the search was over too soon
    WRONG = "wrong answers"


class Result(NamedTuple):
    """What came of a trial: `over` of its requests were over the objective."""

    outcome: Outcome
    over: int
    requests: int


def verdict(over: int, count: int, planned: int) -> Outcome:
    """Return the outcome of `over` among `count` requests; a trial cut short before `planned` cannot pass."""
    if count == planned and over <= most_over(count):
        return Outcome.MET
    return Outcome.NOT_MET if over >= least_over(count) else Outcome.UNSURE


class Trial(NamedTuple):
    """one trial. rate_index: on the grid."""

    rate_index: int
    result: Result


class Found(NamedTuple):
    """What a search shows, in requests a second.

    rate: the highest that is certified. low, high: between them the p99 crosses the objective. None: not found.
    """

    rate: float | None
    low: float | None
    high: float | None
    limit: Limit


def rate_of(rate_index: int) -> float:
    """Return the rate at a rate index, in whole requests a second."""
    return float(round(FIRST_RPS * 2 ** (rate_index / PER_OCTAVE)))


class Search:
    """Tries rates by `attempt`, as long as a trial can end within `left_s()`; `trials` has what came of it."""

    def __init__(self, attempt: Callable[[float], Result], left_s: Callable[[], float]) -> None:
        self._attempt = attempt
        self._left_s = left_s
        self._reserve_s = CERTIFY_SHARE * left_s()
        self._top = HIGHEST
        self.trials: list[Trial] = []

    def run(self) -> None:
        """Search."""
        self._climb()
        self._certify()

    def _climb(self) -> None:
        rate_index, stride, way, straight = 0, PER_OCTAVE, 0, 0
        while self._time_for(rate_index, self._reserve_s) and not self._ended:
            result = self._trial(rate_index)
            if result is None:
                continue
            if result.outcome is Outcome.INVALID:
                self._top = min(self._top, rate_index - 1)
            turn = 1 if result.outcome is not Outcome.INVALID and result.over <= TAIL * result.requests else -1
            straight = straight + 1 if turn == way else 1
            if way and turn != way:
                stride = max(NARROWEST, stride // 2)
            elif straight > LONG:
                stride, straight = min(PER_OCTAVE, 2 * stride), 1
            way = turn
            rate_index = min(max(rate_index + turn * stride, LOWEST), self._top)

    def _certify(self) -> None:
        """Lower the rate from the interval's lower end until one is certified."""
        rate_index = self._top
        while not self._ended:
            rate_index = min(rate_index, rate_index_below(most_of(self.trials)))
            tally = tally_of(self.trials, rate_index)
            if certified(self.trials, rate_index) or rate_index < LOWEST or not self._time_for(rate_index):
                return
            if failed(tally) > tally[Outcome.MET] + 1 or tally[Outcome.INVALID] >= MAX_INVALID:
                rate_index -= 1
            else:
                self._trial(rate_index)

    @property
    def _ended(self) -> bool:
        """Return whether to stop: incorrect responses, the lowest rate fails, or the highest is certified."""
        if any(each.result.outcome is Outcome.WRONG for each in self.trials):
            return True
        lowest, top = (tally_of(self.trials, rate_index) for rate_index in (LOWEST, self._top))
        return self._top < LOWEST or failed(lowest) >= AGREE or top[Outcome.MET] >= AGREE

    def _time_for(self, rate_index: int, reserve_s: float = 0.0) -> bool:
        rate = rate_of(rate_index)
        return requests_of(rate) / rate + reserve_s < self._left_s()

    def _trial(self, rate_index: int) -> Result | None:
        """Run a trial at a rate index; None: repeat it. The last of too many invalid ones is returned as it is."""
        result = self._attempt(rate_of(rate_index))
        self.trials.append(Trial(rate_index, result))
        again = result.outcome is Outcome.INVALID and tally_of(self.trials, rate_index)[Outcome.INVALID] < MAX_INVALID
        return None if again else result


def tally_of(trials: Sequence[Trial], rate_index: int) -> Counter[Outcome]:
    """Count the outcomes at one place."""
    return Counter(each.result.outcome for each in trials if each.rate_index == rate_index)


def failed(tally: Counter[Outcome]) -> int:
    """Return how many trials did not pass."""
    return tally[Outcome.UNSURE] + tally[Outcome.NOT_MET]


def certified(trials: Sequence[Trial], rate_index: int) -> bool:
    """Return whether the trials certify a rate index: one passes there, and passes above it count as well.

    There must be two, and no more that failed there or below: a noisy machine spoils single trials at any rate.
    """
    met = sum(each.result.outcome is Outcome.MET for each in trials if each.rate_index >= rate_index)
    against = sum(failed(Counter([each.result.outcome])) for each in trials if each.rate_index <= rate_index)
    return tally_of(trials, rate_index)[Outcome.MET] > 0 and met >= max(AGREE, against)


def refuted(tally: Counter[Outcome]) -> bool:
    """Return whether the trials at a rate index show that the server, not the generator, misses the objective."""
    return tally[Outcome.NOT_MET] >= max(AGREE, tally[Outcome.MET] + 1)


def near(trials: Sequence[Trial]) -> list[Point]:
    """Return the trials near where the staircase ended."""
    valid = [each for each in trials if each.result.outcome is not Outcome.INVALID]
    middle = statistics.median([each.rate_index for each in valid[len(valid) // 2 :]] or [0])
    return [Point(rate_of(rate_index), *result[1:]) for rate_index, result in valid if abs(rate_index - middle) <= NEAR]


def most_of(trials: Sequence[Trial]) -> float:
    """Return the rate above which nothing is certified: half a rate index below the curve's crossing.

    Where there is none, it is the highest rate that was met once.
    """
    found = crossing(near(trials))
    if found is not None:
        return found.rate / HALF_A_PLACE
    return max(
        (rate_of(each.rate_index) for each in trials if each.result.outcome is Outcome.MET), default=rate_of(LOWEST)
    )


def rate_index_below(rate: float) -> int:
    """Return the highest rate index with at most that rate, rounded as it is."""
    return max((rate_index for rate_index in range(LOWEST, HIGHEST + 1) if rate_of(rate_index) <= rate), default=LOWEST)


def conclude(trials: Sequence[Trial], wrong_outside: int = 0) -> Found:
    """Conclude from the trials of a search that ended or was cut short.

    wrong_outside: wrong answers in the warm-up or under more than the capacity; one anywhere, and there is no capacity.
    """
    tallies = {rate_index: tally_of(trials, rate_index) for rate_index in sorted({each.rate_index for each in trials})}
    if wrong_outside or any(tally[Outcome.WRONG] for tally in tallies.values()):
        return Found(None, None, None, Limit.WRONG)
    most = most_of(trials)
    fine = [rate_index for rate_index in tallies if certified(trials, rate_index) and rate_of(rate_index) <= most]
    rate = rate_of(max(fine)) if fine else None
    stuck = [rate_index for rate_index, tally in tallies.items() if tally[Outcome.INVALID] >= MAX_INVALID]
    between = range(max(fine, default=LOWEST - 1) + 1, min(stuck, default=HIGHEST + 1))
    failing = any(refuted(tally) for rate_index, tally in tallies.items() if rate_index in between)
    found = crossing(near(trials))
    if found is not None and (failing or not stuck):
        return Found(rate, *bounds(found, rate, trials), Limit.TIME if rate is None else Limit.SERVER)
    if stuck:
        return Found(rate, rate, None, Limit.GENERATOR)
    no_rate = failed(tallies.get(LOWEST, Counter())) >= AGREE
    high = rate_of(LOWEST) if no_rate and rate is None else None  # lower rates are not tried
    return Found(rate, None, high, Limit.SERVER if no_rate else Limit.TIME)


def bounds(found: Crossing, rate: float | None, trials: Sequence[Trial]) -> tuple[float | None, float | None]:
    """Return the interval, no narrower than the grid and with the certified rate in it.

    Where the trials scatter too much for the curve to bound anything, there is no lower end, and the upper one is the
    lowest rate above the certified one that two trials refute.
    """
    low = min(found.low, found.rate / HALF_A_PLACE, rate or found.low)
    high = max(found.high, found.rate * HALF_A_PLACE)
    above = [rate_index for rate_index in {each.rate_index for each in trials} if refuted(tally_of(trials, rate_index))]
    least = min((rate_of(rate_index) for rate_index in above if rate_of(rate_index) > (rate or 0.0)), default=None)
    return (low if low >= rate_of(LOWEST) else None), (high if high <= rate_of(HIGHEST) else least)
