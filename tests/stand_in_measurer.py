"""A stand-in for the measurer of `servepath tune`: a known response surface with noise, on a clock of its own."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from loadtest.tune.search import Round, Trial
from loadtest.tune.space import Candidate, Value

START_S, ROUND_S = 5.0, 4.0
DEFAULT_RATE = 1000.0


@dataclass
class StandInMeasurer:
    """Measures nothing. effects: the log ratio that each value gives. out: candidates with one of these values fail.

    start_noise: what the log rate differs by from start to start, of either side. seconds: what the measurements would
    have taken. fails_after: of trials, when Ctrl-C comes. fresh: of each, whether
    it was to have servers of its own.
    """

    effects: Mapping[tuple[str, Value], float]
    noise: float
    out: Mapping[tuple[str, Value], str] = field(default_factory=dict)
    seconds: float = 0.0
    asked: list[Candidate] = field(default_factory=list)
    fails_after: int | None = None
    running: Candidate | None = None
    fresh: list[bool] = field(default_factory=list)
    seed: int = 0
    start_noise: float = 0.0
    default_start: float = 0.0
    own_start: float = 0.0

    def truth(self, candidate: Candidate) -> float:
        return sum(self.effects.get(pair, 0.0) for pair in candidate)

    def measure(self, candidate: Candidate, rounds: int, number: int, *, fresh: bool) -> Trial:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise KeyboardInterrupt
        self.asked.append(candidate)
        self.fresh.append(fresh)
        starts = random.Random(f"start {number} {self.seed}")  # noqa: S311 - noise that is the same each time
        if fresh or candidate != self.running:
            self.seconds += 2 * START_S
            self.default_start, self.own_start = (starts.gauss(0.0, self.start_noise) for _ in range(2))
        self.running = candidate
        for pair in candidate:
            if pair in self.out:
                return Trial(candidate, (), self.out[pair])
        self.seconds += ROUND_S * rounds
        drawn = random.Random(f"{number} {self.seed}")  # noqa: S311 - as above
        truth = self.truth(candidate) + self.own_start - self.default_start
        ratios = [truth + drawn.gauss(0.0, self.noise) for _ in range(rounds)]
        return Trial(candidate, tuple(Round(DEFAULT_RATE, DEFAULT_RATE * math.exp(each)) for each in ratios))
