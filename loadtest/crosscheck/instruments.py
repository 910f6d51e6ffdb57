"""The instruments that load the same path in turn, and what each of their blocks consists of."""

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from loadtest.plan import Block, ServingPath, Turn, draw

# Ours is compared with LoadGen under the arrivals that LoadGen makes, with h2load under those that h2load makes.
POISSON, LOADGEN, EVEN, H2LOAD = INSTRUMENTS = ("poisson", "loadgen", "even", "h2load")
ABOUT: Mapping[str, str] = {
    POISSON: "the load test of this project, Poisson arrivals",
    LOADGEN: "MLPerf LoadGen, Server scenario: Poisson arrivals",
    EVEN: "the load test of this project, even arrivals",
    H2LOAD: "h2load --rps: even arrivals",
}
# h2load's clock ticks every 10 ms (`rps_watcher.repeat` in its source): at more than 100 requests a second a connection
# sends in bursts. So each has at most half of that, and one begins after the other, a gap of the schedule later.
FEWEST_CONNECTIONS, MOST_RPS_EACH = 4, 50
# That gap is given to h2load in whole milliseconds.
MOST_RPS = 1000
# What a block may take beyond its schedule before it is given up: to start, for the last reply, to write its record.
SLACK_S = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """One block of one instrument.

    null: address of the null endpoint. model: whose requests that endpoint gets. settle, requests: how many come
    unmeasured, then measured. seed: of arrivals and payloads. folder: for what the instrument itself leaves behind.
    """

    block: Block
    null: str
    model: str
    rate: float
    settle: int
    requests: int
    seed: int
    exports: Path
    env_file: Path
    folder: Path

    def to_json(self) -> str:
        """Give the form in which another process is told."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the form that `to_json` gives."""
        raw = json.loads(text)
        path, *rest = raw["block"]
        places = {name: Path(raw[name]) for name in ("exports", "env_file", "folder")}
        return cls(**raw | places | {"block": Block(ServingPath(*path), *rest)})

    @property
    def connections(self) -> int:
        """Give how many connections share the requests, the same for every instrument."""
        return max(FEWEST_CONNECTIONS, math.ceil(self.rate / MOST_RPS_EACH))

    @property
    def count(self) -> int:
        """Give the number of all requests."""
        return self.settle + self.requests

    @property
    def limit_s(self) -> float:
        """Give after how many seconds the block is given up."""
        return math.ceil(2 * self.count / self.rate + SLACK_S)


def order(blocks: Sequence[Block], rounds: int, seed: int) -> Iterator[tuple[Turn, str]]:
    """Give every block by every instrument in each round: the blocks in drawn order, and of each the instruments.

    The instruments of one block follow one another, so that they meet the machine in the same state.
    """
    for turn in draw(blocks, rounds, seed):
        names = list(INSTRUMENTS)
        random.Random(f"{seed}/{turn}").shuffle(names)  # noqa: S311 - an order, not a secret
        yield from ((turn, name) for name in names)
