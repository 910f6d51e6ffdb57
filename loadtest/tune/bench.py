"""Candidates beside the default: both sides' services run, and a round is one block of load on each, in drawn order."""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil
import pyarrow as pa

from loadtest.calls import Caller
from loadtest.cost.process_tree import Cpu
from loadtest.measurement_spec import RAMP_UP_S, MeasurementSpec
from loadtest.plan import Measurement, ServingPath, Turn
from loadtest.run import RunError
from loadtest.tune.score import SHORTEST_WINDOW, WINDOW, Block, at_rising_rate, at_steady_rate, misses, wrong_answers
from loadtest.tune.search import Round, Trial
from loadtest.tune.space import Candidate
from servepath.protocols.tuned import OF_GATEWAY, PRECISION, Tuned
from servepath.results.names import OPEN_POISSON
from servepath.results.thresholds import MIN_P99_SAMPLES

DEFAULT_SIDE, CANDIDATE_SIDE = "default", "candidate"
GATEWAY = "gateway"
PILOT_CALLS = 30
# A block at a rising rate begins at a third of what the default can do, and may end at ten times that.
BELOW, OCTAVES = 3.0, 5
# The first one, which does not know that yet, from 1/4 of what one caller gets on, to 16 times that.
PILOT_BELOW, PILOT_OCTAVES = 4.0, 6
# Requests to each doubling, in no less and no more seconds than these.
PER_OCTAVE, MIN_OCTAVE_S, MAX_OCTAVE_S = 300, 1.0, 6.0
# So many over the objective end a block: many more than a pause of the machine makes.
ENDING_OVER = 300
STEADY_S = 1.0
# A round is repeated until so many blocks of one side in the trial had failing requests (a pause of the machine may do
# it), or so many of its own pairs had no figure; then it ends. So it has fewer blocks of each side than MAX_BLOCKS.
MAX_REPEATS = 3
MAX_BLOCKS = 3 * MAX_REPEATS


class StartError(Exception):
    """Services do not start; the text is the end of what was said."""


class Services(Protocol):
    """The services of one side, server and gateway."""

    def start(self, settings: Tuned | None) -> None:
        """Start what does not run, with these settings, and wait until it answers correctly. Raises StartError."""

    def stop(self, names: Sequence[str] = ()) -> None:
        """Stop services, all of them unless some are named."""

    def pids(self) -> list[int]:
        """Return the processes of all services. Raises psutil.Error or OSError where one has ended."""


def start_twice(servers: Services, settings: Tuned | None, names: Sequence[str] = ()) -> None:
    """Start services, a second time if they fail to. names: those that are stopped between, all unless some are named.

    Raises StartError, InterruptedRun.
    """
    try:
        servers.start(settings)
    except StartError:
        servers.stop(names)
        servers.start(settings)


def start_default(servers: Services) -> None:
    """Start the default's services, a second time if they fail to. Raises RunError, InterruptedRun."""
    try:
        start_twice(servers, None)
    except StartError as error:
        raise RunError(f"the default settings do not start: {error}") from error


@dataclass(slots=True)
class Bench:
    """A Measurer on two sides' services. tuned_of: a candidate as a file of settings.

    send: loads one measurement and gives its rows. warm: loads a fresh server until it is steady, with such requests;
    returns the rows of each window. goal: a key of GOALS. rate: of steady blocks. default_rate: what the default can
    do, as far as is known.
    """

    path: ServingPath
    goal: str
    slo_us: float
    rate: float
    connections: int
    seed: int
    sides: Mapping[str, Services]
    send: Callable[[MeasurementSpec], pa.Table]
    warm: Callable[[MeasurementSpec], Sequence[pa.Table]]
    tuned_of: Callable[[Candidate], Tuned]
    default_rate: float = 0.0
    _running: Candidate | None = None
    _known: list[float] = field(default_factory=list)

    def begin(self, caller: Caller, payloads: Any) -> None:
        """Find out roughly what the default can do; its services run. Raises RunError, InterruptedRun."""
        took_us = [caller.ask(payload).service_us for payload in payloads[:PILOT_CALLS]]
        alone = 1e6 / statistics.median(took_us)
        self._refuse(self._warm(DEFAULT_SIDE, self.path, min(alone / PILOT_BELOW, self.rate or alone)))
        if self.goal != "rate":
            self.default_rate = self.rate
            return
        for start in (alone / PILOT_BELOW, alone / PILOT_BELOW**2):
            octave_s = min(max(PER_OCTAVE / alone, MIN_OCTAVE_S), MAX_OCTAVE_S / 2)
            block = self._rising(DEFAULT_SIDE, self.path, start, octave_s, octaves=PILOT_OCTAVES, number=0)
            self._refuse(block.out)
            if block.value is not None:
                self.default_rate = block.value
                self._known = [block.value]
                return
        raise RunError(
            f"{self.path} keeps a p99 below {self.slo_us / 1e3:g} ms at no rate with the default settings: raise "
            "--slo-p99-ms"
        )

    def measure(self, candidate: Candidate, rounds: int, number: int, *, fresh: bool) -> Trial:
        """Return a trial of so many rounds."""
        if out := self._serve(candidate, fresh=fresh):
            return Trial(candidate, (), out)
        found: list[Round] = []
        blocks: dict[str, list[Block]] = {DEFAULT_SIDE: [], CANDIDATE_SIDE: []}
        failed = dict.fromkeys(blocks, 0)
        for turn in range(rounds):
            one = self._round(candidate, number + turn, blocks, failed)
            if isinstance(one, str):
                return Trial(candidate, (), one)
            found.append(one)
        if self.goal != "rate" and misses(blocks, DEFAULT_SIDE, CANDIDATE_SIDE):
            return Trial(candidate, (), f"its p99 is above {self.slo_us / 1e3:g} ms, the default's is not")
        return Trial(candidate, tuple(found))

    def _round(
        self, candidate: Candidate, number: int, blocks: dict[str, list[Block]], failed: dict[str, int]
    ) -> Round | str:
        """Load both sides once; return the round, or why the candidate is out. failed: by side, of the trial."""
        order = [DEFAULT_SIDE, CANDIDATE_SIDE]
        random.Random(f"{self.seed}/{number}").shuffle(order)  # noqa: S311 - an order, not a secret
        lacking = 0
        while lacking < MAX_REPEATS:
            block_number = number * MAX_BLOCKS + sum(failed.values()) + lacking
            pair = {}
            for side in order:
                path = self.path if side == DEFAULT_SIDE else path_of(self.path, candidate)
                pair[side] = self._block(side, path, block_number)
                failed[side] += pair[side].failing
            default, ours = pair[DEFAULT_SIDE], pair[CANDIDATE_SIDE]
            if not default.failing or failed[DEFAULT_SIDE] == MAX_REPEATS:
                self._refuse(default.out)
            if ours.out and (not ours.failing or failed[CANDIDATE_SIDE] == MAX_REPEATS):
                return ours.out
            if default.failing or ours.failing:
                continue
            for side, block in pair.items():
                blocks[side].append(block)
            # A candidate that is never well does less than the lowest rate that was tried.
            value = self.default_rate / BELOW if ours.value is None and self.goal == "rate" else ours.value
            if default.value is not None and value is not None:
                self._learn(default.value)
                return Round(default.value, value, default.limited or ours.limited)
            lacking += 1
            if self.goal == "rate":
                # Started a moment ago it does less than a third of what was known of it: begin lower.
                self.default_rate /= BELOW
                self._known.clear()
        seen = f"{self.path} with the default settings meets {self.slo_us / 1e3:g} ms at no rate"
        why = seen if self.goal == "rate" else f"{self.path} has no figure for {self.goal}"
        raise RunError(f"{why} in {MAX_REPEATS} blocks: use a quieter machine, or raise --slo-p99-ms")

    def _block(self, side: str, path: ServingPath, number: int) -> Block:
        if self.goal == "rate":
            octave_s = min(max(PER_OCTAVE / self.default_rate, MIN_OCTAVE_S), MAX_OCTAVE_S)
            return self._rising(side, path, self.default_rate / BELOW, octave_s, octaves=OCTAVES, number=number)
        requests = max(math.ceil(self.rate * STEADY_S), MIN_P99_SAMPLES // 4)
        spec = self._spec(side, path, self.rate, requests, number)
        try:
            cpu = Cpu(self.sides[side].pids()) if self.goal == "cpu" else None
        except (psutil.Error, OSError):
            return Block(None, 0, 0, limited=False, out="a service ended by itself")
        before_ns = cpu.read_ns() if cpu else 0
        table = self.send(spec)
        cpu_s = (cpu.read_ns() - before_ns) / 1e9 if cpu else None
        return at_steady_rate(table, self.slo_us, cpu_s=cpu_s)

    def _rising(
        self, side: str, path: ServingPath, start: float, octave_s: float, *, octaves: int, number: int
    ) -> Block:
        # As many requests as a rate that doubles every octave_s sends in all octaves.
        requests = math.ceil(start * octave_s / math.log(2) * (2**octaves - 1))
        ending = {"over_us": self.slo_us, "most_over": ENDING_OVER, "doubling_s": octave_s}
        table = self.send(self._spec(side, path, start, requests, number, **ending))
        window = int(min(max(start * BELOW * octave_s / 4, SHORTEST_WINDOW), WINDOW))
        return at_rising_rate(table, self.slo_us, lambda due_s: start * 2 ** (due_s / octave_s), window)

    def _spec(
        self, side: str, path: ServingPath, rate: float, requests: int, number: int, **more: Any
    ) -> MeasurementSpec:
        turn, seed = Turn(number, Measurement(path, GATEWAY, side)), f"{self.seed}/{number}"
        ramp_up = math.ceil(rate * RAMP_UP_S)
        return MeasurementSpec(turn, OPEN_POISSON, rate, ramp_up, requests, self.connections, seed, 1, 0, **more)

    def _warm(self, side: str, path: ServingPath, rate: float) -> str:
        """Load a fresh server until it is steady; return what is wrong with its answers."""
        return wrong_answers(*self.warm(self._spec(side, path, rate, 1, 0)))

    def _start_default_again(self) -> None:
        self.sides[DEFAULT_SIDE].stop()
        start_default(self.sides[DEFAULT_SIDE])
        self._refuse(self._warm(DEFAULT_SIDE, self.path, self.default_rate / BELOW))

    def _serve(self, candidate: Candidate, *, fresh: bool) -> str:
        """Start the candidate's services, unless `fresh` less those that run with its settings; return why it is out.

        With its server the default's is started again: servers get faster for minutes (TorchServe's JVM compiles).
        """
        if candidate == self._running and not fresh:
            return ""
        servers, before, self._running = self.sides[CANDIDATE_SIDE], self._running, None
        gateway_alone = before is not None and not fresh and dict(set(candidate) ^ set(before)).keys() <= OF_GATEWAY
        names = [GATEWAY] if gateway_alone else []
        if before is not None:
            servers.stop(names)
        if not gateway_alone:
            self._start_default_again()
        try:
            start_twice(servers, self.tuned_of(candidate), names)
        except StartError as error:
            servers.stop()
            return f"does not start: {error}"
        self._running = candidate
        return self._warm(CANDIDATE_SIDE, path_of(self.path, candidate), self.default_rate / BELOW)

    def _learn(self, value: float) -> None:
        self._known.append(value)
        if self.goal == "rate":
            self.default_rate = statistics.median(self._known)

    def _refuse(self, out: str) -> None:
        if out:
            raise RunError(f"{self.path} with the default settings: {out}")


def path_of(path: ServingPath, candidate: Candidate) -> ServingPath:
    """Return the path that a candidate's settings are for: in its precision, where it has one."""
    precision = dict(candidate).get(PRECISION)
    return path._replace(stack=f"{path.stack}:{precision}") if precision else path
