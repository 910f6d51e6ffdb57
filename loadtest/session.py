"""The blocks of a run, one after another, in one process with Locust as a library."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.event
import psutil
from locust.env import Environment

from loadtest.calls import DEADLINE_S, Caller, Clock, Target
from loadtest.config import ConfigError
from loadtest.payloads import Payload
from loadtest.recorder import Recorder
from loadtest.run import Run
from loadtest.users import user_class

UNREACHABLE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
# A slow path gets longer to reach its number of requests, but not for ever.
STRETCH = 4
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """What a block does: `rate` requests a second over all its users, warm-up, then the measured time.

    That lasts `duration_s`, or longer until `min_requests` were measured, but at most STRETCH times `duration_s`.
    """

    rate: float
    users: int
    warmup_s: float
    duration_s: float
    min_requests: int


class Interruption:
    """Ctrl-C or SIGTERM, as an event that a block can wait for; no exception in the middle of a call."""

    def __init__(self) -> None:
        self.event = gevent.event.Event()
        self.signal: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        self.signal = number
        self.event.set()


def check_reachable(targets: Sequence[tuple[Target, Sequence[Payload]]], clock: Clock) -> None:
    """Ask every target once. Raises ConfigError naming the first that no server answers for."""
    for target, payloads in targets:
        caller = Caller(target, clock)
        try:
            sample = caller.ask(payloads[0])
        finally:
            caller.close()
        if sample.code in UNREACHABLE:
            block = target.block
            raise ConfigError(f"{block.path} ({block.via}) at {target.address}: {sample.code}; run: make up")


class Session:
    """Runs blocks; what stays the same between them."""

    def __init__(self, run: Run, load: Load, clock: Clock, interruption: Interruption) -> None:
        self._run = run
        self._load = load
        self._clock = clock
        self._interruption = interruption
        self._process = psutil.Process()

    def block(self, target: Target, payloads: Sequence[Payload]) -> dict[str, Any]:
        """Load one target, write its rows and give what run.json says about the block."""
        recorder = Recorder(target.block)
        load = self._load
        users = user_class(target, payloads, self._clock, interval_s=load.users / load.rate, users=load.users)
        environment = Environment(user_classes=[users], stop_timeout=2 * DEADLINE_S)
        environment.events.request.add_listener(lambda context, **_: recorder.samples.append(context["sample"]))
        faults: list[Exception] = []
        environment.events.user_error.add_listener(lambda exception, **_: faults.append(exception))
        runner = environment.create_local_runner()
        runner.start(load.users, spawn_rate=load.users)
        try:
            facts = self._measure(recorder, faults)
        finally:
            runner.quit()
        rows = recorder.write(self._run.folder)
        if faults:
            raise faults[0]  # a fault of the load test itself, not of a server
        return self._tell(recorder, facts | {"rows": f"rows/{rows.name}"})

    def _measure(self, recorder: Recorder, faults: list[Exception]) -> dict[str, Any]:
        stop, load = self._interruption.event, self._load
        stop.wait(load.warmup_s)
        before, begin_ns = self._cpu_s(), self._clock.now_ns()
        recorder.measure_from_ns = begin_ns
        stop.wait(load.duration_s)
        elapsed_s = (self._clock.now_ns() - begin_ns) / 1e9
        while (
            not stop.is_set()
            and not faults
            and elapsed_s < STRETCH * load.duration_s
            and len(recorder.measured()) < load.min_requests
        ):
            stop.wait(POLL_S)
            elapsed_s = (self._clock.now_ns() - begin_ns) / 1e9
        return {"seconds": round(elapsed_s, 3), "generator_cpu": round((self._cpu_s() - before) / elapsed_s, 3)}

    def _tell(self, recorder: Recorder, facts: dict[str, Any]) -> dict[str, Any]:
        measured, path = recorder.measured(), recorder.block.path
        return {
            "model": path.model,
            "stack": path.stack,
            "via": recorder.block.via,
            "requests": len(measured),
            "errors": sum(not sample.ok for sample in measured),
            "wrong_answers": sum(sample.wrong for sample in measured),
            **facts,
        }

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)
