"""The search for the highest rate that keeps the objective: which rate is tried next, and what the tries show.

Rates are those of a grid, PER_OCTAVE to a doubling. A staircase climbs from FIRST_RPS by doubling: up after a try with
at most 1 % of its requests over the objective, down after another one. Its stride is halved where it turns, and doubled
when it has gone the same way for long; so it comes back after a try that a restless machine spoiled. Its last tries lie
on both sides of where the p99 crosses the objective, and a curve through them says where (fit.py). The rate that is
given is below that, and certified by two tries, at it or above.
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
NARROWEST = 2  # of the strides: nearer tries would tell the curve's slope worse
LONG = 3  # so many tries the same way double the stride
NEAR = 8  # places from the staircase's middle: what is further away does not lie on one curve with it
AGREE = 2
# A pause of the machine spoils a try; so often at one rate it is not by chance.
MOST_INVALID = 4
CERTIFY_SHARE = 0.25  # of the search's time


class Outcome(enum.StrEnum):
    """What one try at one rate shows."""

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
    """What came of a try: `over` of its requests were over the objective."""

    outcome: Outcome
    over: int
    requests: int


def verdict(over: int, count: int, planned: int) -> Outcome:
    """Give what `over` of `count` requests show; a try that ended before all `planned` ones certifies nothing good."""
    if count == planned and over <= most_over(count):
        return Outcome.MET
    return Outcome.NOT_MET if over >= least_over(count) else Outcome.UNSURE


class Try(NamedTuple):
    """One try. place: on the grid."""

    place: int
    result: Result


class Found(NamedTuple):
    """What a search shows, in requests a second.

    rate: the highest that is certified. low, high: between them the p99 crosses the objective. None: not found.
    """

    rate: float | None
    low: float | None
    high: float | None
    limit: Limit


def rate_of(place: int) -> float:
    """Give a place's requests a second, in whole ones."""
    return float(round(FIRST_RPS * 2 ** (place / PER_OCTAVE)))


class Search:
    """Tries rates by `attempt`, as long as a try can end within `left_s()`; `tries` has what came of it."""

    def __init__(self, attempt: Callable[[float], Result], left_s: Callable[[], float]) -> None:
        self._attempt = attempt
        self._left_s = left_s
        self._reserve_s = CERTIFY_SHARE * left_s()
        self._top = HIGHEST
        self.tries: list[Try] = []

    def run(self) -> None:
        """Search."""
        self._climb()
        self._certify()

    def _climb(self) -> None:
        place, stride, way, straight = 0, PER_OCTAVE, 0, 0
        while self._time_for(place, self._reserve_s) and not self._ended:
            result = self._try(place)
            if result is None:
                continue
            if result.outcome is Outcome.INVALID:
                self._top = min(self._top, place - 1)
            turn = 1 if result.outcome is not Outcome.INVALID and result.over <= TAIL * result.requests else -1
            straight = straight + 1 if turn == way else 1
            if way and turn != way:
                stride = max(NARROWEST, stride // 2)
            elif straight > LONG:
                stride, straight = min(PER_OCTAVE, 2 * stride), 1
            way = turn
            place = min(max(place + turn * stride, LOWEST), self._top)

    def _certify(self) -> None:
        """Go down from the interval's lower end until a rate is certified."""
        place = self._top
        while not self._ended:
            place = min(place, place_below(most_of(self.tries)))
            tally = tally_of(self.tries, place)
            if certified(self.tries, place) or place < LOWEST or not self._time_for(place):
                return
            if failed(tally) > tally[Outcome.MET] + 1 or tally[Outcome.INVALID] >= MOST_INVALID:
                place -= 1
            else:
                self._try(place)

    @property
    def _ended(self) -> bool:
        """Wrong answers, or an end of the grid that holds: the lowest rate fails, or the highest is certified."""
        if any(each.result.outcome is Outcome.WRONG for each in self.tries):
            return True
        lowest, top = (tally_of(self.tries, place) for place in (LOWEST, self._top))
        return self._top < LOWEST or failed(lowest) >= AGREE or top[Outcome.MET] >= AGREE

    def _time_for(self, place: int, reserve_s: float = 0.0) -> bool:
        rate = rate_of(place)
        return requests_of(rate) / rate + reserve_s < self._left_s()

    def _try(self, place: int) -> Result | None:
        """Try a place; None for a try to be repeated. The last of too many that are invalid is given as it is."""
        result = self._attempt(rate_of(place))
        self.tries.append(Try(place, result))
        again = result.outcome is Outcome.INVALID and tally_of(self.tries, place)[Outcome.INVALID] < MOST_INVALID
        return None if again else result


def tally_of(tries: Sequence[Try], place: int) -> Counter[Outcome]:
    """Count the outcomes at one place."""
    return Counter(each.result.outcome for each in tries if each.place == place)


def failed(tally: Counter[Outcome]) -> int:
    """Give how many tries were not certified."""
    return tally[Outcome.UNSURE] + tally[Outcome.NOT_MET]


def certified(tries: Sequence[Try], place: int) -> bool:
    """Say whether tries, taken together, certify a place: one there is met, and what is met above it counts as well.

    There must be two, and no more that failed there or below: a restless machine spoils single tries at any rate.
    """
    met = sum(each.result.outcome is Outcome.MET for each in tries if each.place >= place)
    against = sum(failed(Counter([each.result.outcome])) for each in tries if each.place <= place)
    return tally_of(tries, place)[Outcome.MET] > 0 and met >= max(AGREE, against)


def refuted(tally: Counter[Outcome]) -> bool:
    """Say whether a place's tries show that the server, and not the generator, does not keep the objective there."""
    return tally[Outcome.NOT_MET] >= max(AGREE, tally[Outcome.MET] + 1)


def near(tries: Sequence[Try]) -> list[Point]:
    """Give the tries near where the staircase ended."""
    valid = [each for each in tries if each.result.outcome is not Outcome.INVALID]
    middle = statistics.median([each.place for each in valid[len(valid) // 2 :]] or [0])
    return [Point(rate_of(place), *result[1:]) for place, result in valid if abs(place - middle) <= NEAR]


def most_of(tries: Sequence[Try]) -> float:
    """Give above which rate nothing is certified, whatever single tries say: half a place below the curve's crossing.

    Where there is none, it is the highest rate that was met once.
    """
    found = crossing(near(tries))
    if found is not None:
        return found.rate / HALF_A_PLACE
    return max((rate_of(each.place) for each in tries if each.result.outcome is Outcome.MET), default=rate_of(LOWEST))


def place_below(rate: float) -> int:
    """Give the highest place with at most that rate, as rounded as it is."""
    return max((place for place in range(LOWEST, HIGHEST + 1) if rate_of(place) <= rate), default=LOWEST)


def conclude(tries: Sequence[Try]) -> Found:
    """Give what tries show, of a search that ended or was cut short."""
    tallies = {place: tally_of(tries, place) for place in sorted({each.place for each in tries})}
    if any(tally[Outcome.WRONG] for tally in tallies.values()):
        return Found(None, None, None, Limit.WRONG)
    most = most_of(tries)
    fine = [place for place in tallies if certified(tries, place) and rate_of(place) <= most]
    rate = rate_of(max(fine)) if fine else None
    stuck = [place for place, tally in tallies.items() if tally[Outcome.INVALID] >= MOST_INVALID]
    between = range(max(fine, default=LOWEST - 1) + 1, min(stuck, default=HIGHEST + 1))
    failing = any(refuted(tally) for place, tally in tallies.items() if place in between)
    found = crossing(near(tries))
    if found is not None and (failing or not stuck):
        return Found(rate, *bounds(found, rate, tries), Limit.TIME if rate is None else Limit.SERVER)
    if stuck:
        return Found(rate, rate, None, Limit.GENERATOR)
    no_rate = failed(tallies.get(LOWEST, Counter())) >= AGREE
    return Found(rate, None, None, Limit.SERVER if no_rate else Limit.TIME)


def bounds(found: Crossing, rate: float | None, tries: Sequence[Try]) -> tuple[float | None, float | None]:
    """Give the interval, no narrower than the grid and with the certified rate in it.

    Where the tries scatter too much for the curve to bound anything, the ends are the certified rate, and the lowest
    above it that two tries refute.
    """
    low = min(found.low, found.rate / HALF_A_PLACE, rate or found.low)
    high = max(found.high, found.rate * HALF_A_PLACE)
    above = [place for place in {each.place for each in tries} if refuted(tally_of(tries, place))]
    least = min((rate_of(place) for place in above if rate_of(place) > (rate or 0.0)), default=None)
    return (low if low >= rate_of(LOWEST) else rate), (high if high <= rate_of(HIGHEST) else least)
