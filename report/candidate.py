"""A candidate: a path reached one way, with its settings, and what was measured of it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from report.documents.settings import DEFAULT
from report.estimates import Estimate, geometric_mean

UNKNOWN = "unknown"


class Settings(NamedTuple):
    """What a path's servers were set to, by name, and where that comes from, "" for what they have by themselves."""

    name: str = "defaults"
    origin: str = ""

    @classmethod
    def read(cls, said: str) -> "Settings":
        """Return what is meant by a path's `settings` in run.json, capacity.json or scorecard.json, "" for none.

        Of tuned ones the origin says when, for what, and which.
        """
        if said in {"", DEFAULT}:
            return cls()
        return cls(UNKNOWN) if said == UNKNOWN else cls("tuned", said.removeprefix("tuned "))


class Capacity(NamedTuple):
    """The highest certified rate at an objective, 0 where there is none.

    low..high: where the p99 crosses the objective, by its 99 % interval, None for an end that nothing bounds; without a
    certified rate, high is the lowest one tried, 0 where it answered wrongly. open_ended: the path may do more.
    """

    rate_rps: float
    low_rps: float | None
    high_rps: float | None
    open_ended: bool

    @property
    def ends(self) -> tuple[float, float]:
        """Return the interval; an upper end of None is the rate, a lower one 0, or the rate where open_ended."""
        lowest = self.rate_rps if self.open_ended else 0.0
        return (
            lowest if self.low_rps is None else self.low_rps,
            self.rate_rps if self.high_rps is None else self.high_rps,
        )


class Cost(NamedTuple):
    """CPU seconds per request, the gateway's among them where it is in the way. values: of each measurement."""

    seconds: float
    values: tuple[float, ...]

    @property
    def estimate(self) -> Estimate:
        """Return the cost with its 95 % interval, which a scorecard of an earlier release has none of."""
        found = geometric_mean(self.values) if self.values else Estimate(self.seconds)
        return Estimate(self.seconds, found.low, found.high)


class Trial(NamedTuple):
    """A rate that the search for a capacity tried, and the p99 there."""

    rate_rps: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A path reached one way, with its settings. What was not measured is None.

    engine: with its version. loaded_p99_ms: under the run's own load, at loaded_rps. cores: that its servers could use
    when the capacity was measured. memory_mib: under load, the gateway's in it where it is in the way.
    wrong_answers: whether it gave any while capacity or cost was measured: then it holds no rate.
    """

    model: str
    stack: str
    via: str
    settings: Settings
    engine: str
    precision: str
    version: int | None
    sha256: str
    capacity: Capacity | None
    cores: float | None
    trials: tuple[Trial, ...]
    cost: Cost | None
    memory_mib: float | None
    loaded_rps: float
    loaded_p99_ms: Estimate | None
    wrong_answers: bool = False

    @property
    def path(self) -> str:
        """Return MODEL@STACK."""
        return f"{self.model}@{self.stack}"

    @property
    def reduced(self) -> str:
        """Return the reduced precision that the path says, "" for full precision."""
        return reduced_precision(self.stack)

    @property
    def name(self) -> str:
        """Return the path, with its settings where they are not the defaults."""
        return self.path if self.settings.name == Settings().name else f"{self.path} ({self.settings.name})"

    @property
    def label(self) -> str:
        """Return the name with engine and version."""
        return f"{self.name} [{self.engine}]"

    @property
    def rate_rps(self) -> float:
        """Return the highest rate that is certified, 0 where none is."""
        return 0.0 if self.capacity is None else self.capacity.rate_rps

    def headroom(self, rate_rps: float) -> float | None:
        """Return how many times a rate it holds; None where it is not known to hold any."""
        return self.rate_rps / rate_rps if self.rate_rps else None

    def cores_for(self, rate_rps: float) -> int | None:
        """Return how many cores a rate takes, if a rate grows evenly with cores."""
        return math.ceil(rate_rps / self.rate_rps * self.cores) if self.rate_rps and self.cores else None

    def p99_at(self, rate_rps: float) -> Estimate | None:
        """Return the p99 at a rate in ms: the run's own, or between trials of the search; None where neither has it.

        Between trials its ends are the smallest and the greatest p99 at the rates next to it: they describe.
        """
        if self.loaded_p99_ms is not None and rate_rps == self.loaded_rps:
            return self.loaded_p99_ms
        return interpolated_p99(self.trials, rate_rps)


def interpolated_p99(trials: Sequence[Trial], rate_rps: float) -> Estimate | None:
    """Return the p99 at a rate by the trials next to it; None for a rate above all of them."""
    above = min((trial.rate_rps for trial in trials if trial.rate_rps >= rate_rps), default=None)
    if above is None:
        return None
    below = max((trial.rate_rps for trial in trials if trial.rate_rps <= rate_rps), default=None)
    upper = [trial.p99_ms for trial in trials if trial.rate_rps == above]
    lower = [trial.p99_ms for trial in trials if trial.rate_rps == below]
    if below is None:
        return Estimate(statistics.median(upper), None, max(upper))
    share = 0.0 if above == below else math.log(rate_rps / below) / math.log(above / below)
    value = statistics.median(lower) ** (1 - share) * statistics.median(upper) ** share
    return Estimate(value, min(*lower, *upper), max(*lower, *upper))


def reduced_precision(stack: str) -> str:
    """Return the reduced precision that a stack's name in a path says, "" for full precision."""
    return stack.partition(":")[2]
