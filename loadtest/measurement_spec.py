"""What a worker is told to load; importing it patches nothing, as Locust would."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from loadtest.plan import Measurement, ServingPath, Turn
from loadtest.schedule import arrivals

# Unmeasured at the beginning of every measurement: what the path before it left behind has ended by then.
RAMP_UP_S = 0.15


@dataclass(frozen=True, slots=True)
class MeasurementSpec:
    """One measurement to load, by all workers together.

    begin_ns: when, by Clock. ramp_up, requests: how many requests come unmeasured, then measured; of a closed loop,
    which may reach fewer, as many as its rate gives in that time. connections: of all workers; a closed loop has as
    many callers. seed: of the schedule. measured: false during the warm-up, when all of it is unmeasured. most_over: an
    open loop ends early when so many of all requests take more than over_us, or fail (0: never). then_requests come
    after the others, at then_rate. doubling_s: the rate of the measured requests doubles every so many seconds (0: it
    stays).
    """

    turn: Turn
    load_model: str
    rate: float
    ramp_up: int
    requests: int
    connections: int
    seed: str
    workers: int
    begin_ns: int
    measured: bool = True
    over_us: float = 0.0
    most_over: int = 0
    then_rate: float = 0.0
    then_requests: int = 0
    doubling_s: float = 0.0

    @property
    def planned_s(self) -> float:
        """Return the planned duration of the measurement in seconds."""
        after_s = self.then_requests / self.then_rate if self.then_requests else 0.0
        requests_s = self.requests / self.rate
        if self.doubling_s:
            requests_s = time_of(requests_s, self.doubling_s)
        return self.ramp_up / self.rate + requests_s + after_s

    @property
    def highest_rate(self) -> float:
        """Return the rate at the end of the measured requests."""
        if not self.doubling_s:
            return self.rate
        return self.rate * 2 ** (time_of(self.requests / self.rate, self.doubling_s) / self.doubling_s)

    @property
    def most_over_each(self) -> int:
        """Return how many requests over the objective end the measurement, for one worker's share."""
        return math.ceil(self.most_over / self.workers)

    def cpu_share(self, cpu_s: float, began_ns: int, ended_ns: int) -> float:
        """Return the share of a core that a worker used while it loaded, without the wait until `begin_ns`."""
        loaded_s = (ended_ns - max(began_ns, self.begin_ns)) / 1e9
        return round(cpu_s / loaded_s, 3) if loaded_s > 0 else 0.0

    def moments(self) -> list[int]:
        """Return the schedule of an open loop, in nanoseconds from the measurement's start."""
        first = arrivals(self.load_model, self.rate, self.ramp_up + self.requests, self.seed)
        if self.doubling_s:
            begin = first[self.ramp_up - 1] if self.ramp_up else 0
            first = [
                moment if moment < begin else begin + int(time_of((moment - begin) / 1e9, self.doubling_s) * 1e9)
                for moment in first
            ]
        if not self.then_requests:
            return first
        after = arrivals(self.load_model, self.then_rate, self.then_requests, f"{self.seed}/then")
        return first + [first[-1] + moment for moment in after]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of the message."""
        return asdict(self) | {"turn": [self.turn.round, *self.turn.measurement.path, *self.turn.measurement[1:]]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read the form that `to_dict` gives."""
        number, model, stack, via, side = raw["turn"]
        return cls(**{**raw, "turn": Turn(number, Measurement(ServingPath(model, stack), via, side))})


def time_of(steady_s: float, doubling_s: float) -> float:
    """Return when the requests are sent that a steady rate sends in `steady_s`, if it doubles every `doubling_s`."""
    return doubling_s * math.log2(1 + steady_s * math.log(2) / doubling_s)
