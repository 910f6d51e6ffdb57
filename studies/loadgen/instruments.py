"""The instruments that load the same path in turn, and what each of their measurements consists of."""

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from loadtest.plan import Measurement, ServingPath, Turn, draw
from servepath.results.names import EVEN, H2LOAD, INSTRUMENTS, LOADGEN, POISSON

# Ours is compared with LoadGen under the arrivals that LoadGen makes, with h2load under those that h2load makes.
ABOUT: Mapping[str, str] = {
    POISSON: "the load test of this project, Poisson arrivals",
    LOADGEN: "MLPerf LoadGen, Server scenario: Poisson arrivals",
    EVEN: "the load test of this project, even arrivals",
    H2LOAD: "h2load --rps: even arrivals",
}
# h2load's clock ticks every 10 ms (`rps_watcher.repeat` in its source): at more than 100 requests a second a connection
# sends in bursts. So each has at most half of that, and one begins after the other, a gap of the schedule later.
MIN_CONNECTIONS, MAX_RPS_EACH = 4, 50
# That gap is given to h2load in whole milliseconds.
MAX_RPS = 1000
# What a measurement may take beyond its schedule before it is given up: to start, for the last reply, to write its
# record.
SLACK_S = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement of one instrument.

    no_op: address of the no-op server. model: whose requests that server gets. ramp_up, requests: how many come
    unmeasured, then measured. seed: of arrivals and payloads. folder: for what the instrument itself leaves behind.
    """

    measurement: Measurement
    no_op: str
    model: str
    rate: float
    ramp_up: int
    requests: int
    seed: int
    exports: Path
    env_file: Path
    folder: Path

    def to_json(self) -> str:
        """Return the JSON form for another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the form that `to_json` gives."""
        raw = json.loads(text)
        path, *rest = raw["measurement"]
        places = {name: Path(raw[name]) for name in ("exports", "env_file", "folder")}
        return cls(**raw | places | {"measurement": Measurement(ServingPath(*path), *rest)})

    @property
    def connections(self) -> int:
        """Return how many connections share the requests, the same for every instrument."""
        return max(MIN_CONNECTIONS, math.ceil(self.rate / MAX_RPS_EACH))

    @property
    def count(self) -> int:
        """Return the number of all requests."""
        return self.ramp_up + self.requests

    @property
    def limit_s(self) -> float:
        """Return the time limit in seconds."""
        return math.ceil(2 * self.count / self.rate + SLACK_S)


def order(measurements: Sequence[Measurement], rounds: int, seed: int) -> Iterator[tuple[Turn, str]]:
    """Yield each round's measurements in drawn order, and for each its instruments in drawn order.

    The instruments of one measurement follow one another, so that they meet the machine in the same state.
    """
    for turn in draw(measurements, rounds, seed):
        names = list(INSTRUMENTS)
        random.Random(f"{seed}/{turn}").shuffle(names)  # noqa: S311 - an order, not a secret
        yield from ((turn, name) for name in names)
