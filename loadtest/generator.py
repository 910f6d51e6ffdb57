"""The load generator: a Locust user that loads one measurement after another as it is told, and gives their rows.

There is one in each worker process, for the whole run. Its connections are opened once, by the warm-up, and stay open
until the run ends: the same for every path, and no measured request pays for a connection. The coordinator
(loadtest/session.py) speaks to it by Locust's messages, so one process and many work alike.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import gevent.queue
import pyarrow as pa
from locust import User, constant, task

from loadtest.calls import Caller, Clock, Target
from loadtest.closed_loop import ClosedLoop
from loadtest.measurement_spec import MeasurementSpec
from loadtest.open_loop import OpenLoop
from loadtest.payloads import Payload, payloads_of
from loadtest.plan import Measurement
from loadtest.recorder import Recorder, Sample
from loadtest.schedule import share
from loadtest.timer import Timer
from loadtest.users import tell
from loadtest.watch import Watch
from servepath.results.names import CLOSED

ORDER, STOP, ROWS, FAULT = "servepath-order", "servepath-stop", "servepath-rows", "servepath-fault"
# A closed loop on a slow path gets longer to reach its number of requests, but not for ever.
STRETCH = 4


Loaded = tuple[Target, Sequence[Payload]]


class Generator:
    """What one worker does: runs orders on connections that it keeps. worker: its number, from 0."""

    def __init__(self, loaded: Sequence[Loaded], connections: int, clock: Clock, timer: Timer) -> None:
        self._loaded = {target.measurement: (target, payloads) for target, payloads in loaded}
        self._connections = connections
        self._clock = clock
        self._timer = timer
        self._asks: dict[Measurement, list[Callable[[], Sample]]] = {}
        self._callers: list[Caller] = []
        self._loop: OpenLoop | ClosedLoop | None = None
        self._watch: Watch | None = None

    def close(self) -> None:
        """Close all connections."""
        for caller in self._callers:
            caller.close()

    def stop(self) -> None:
        """Stop the running measurement early, if any."""
        if self._loop is not None:
            self._loop.stop()

    def end(self) -> None:
        """Stop the measurement early and wait for its last reply; timer and connections are then unused."""
        if self._loop is not None:
            self._loop.stop()
            self._loop.join()

    def run(
        self, spec: MeasurementSpec, worker: int, listen: Callable[[Sample], None]
    ) -> tuple[Recorder, dict[str, Any]]:
        """Load once; return its samples and what was measured of this worker meanwhile. `listen` gets each sample."""
        recorder = Recorder(spec.turn)

        def record(sample: Sample) -> None:
            recorder.samples.append(sample)
            listen(sample)

        before_s, began_ns = time.process_time(), self._clock.now_ns()
        run = self._run_closed if spec.load_model == CLOSED else self._run_open
        from_ns = run(spec, worker, record)
        ended_ns, cpu_s = self._clock.now_ns(), time.process_time() - before_s
        if spec.measured:
            recorder.measure_from_ns = from_ns
        return recorder, {
            "seconds": (ended_ns - from_ns) / 1e9,
            "generator_cpu": spec.cpu_share(cpu_s, began_ns, ended_ns),
            "clock": {"drift_us": round(self._clock.drift_us(), 1)},
            "stopped": self._watch.reason if self._watch else "",
        }

    def _run_open(self, spec: MeasurementSpec, worker: int, record: Callable[[Sample], None]) -> int:
        """Load, and return the time from which requests are measured."""
        moments, asks = spec.moments(), itertools.cycle(self._asks_of(spec, worker))
        self._watch = watch = self._watch_of(spec)

        def ask() -> Sample:
            if watch is not None:
                watch.sent(self._clock.now_ns())
            return next(asks)()

        def told(sample: Sample) -> None:
            record(sample)
            if watch is not None:
                watch.ended(sample, self._clock.now_ns())

        due_ns = iter([spec.begin_ns + moment for moment in share(moments, worker, spec.workers)])
        self._loop = OpenLoop(due_ns, ask, told, self._clock)
        if watch is not None:
            watch.stop = self._loop.stop
        self._loop.run(self._timer)
        return spec.begin_ns + (moments[spec.ramp_up] if spec.ramp_up < len(moments) else moments[-1] + 1)

    def _watch_of(self, spec: MeasurementSpec) -> Watch | None:
        if not spec.most_over:
            return None
        return Watch(spec.begin_ns, spec.over_us, spec.most_over_each, spec.highest_rate / spec.workers)

    def _run_closed(self, spec: MeasurementSpec, worker: int, record: Callable[[Sample], None]) -> int:
        asks, per_s = self._asks_of(spec, worker), spec.rate / spec.workers
        from_ns = spec.begin_ns + int(spec.ramp_up / spec.rate * 1e9)
        planned_ns = int(spec.requests / spec.rate * 1e9)
        measured = 0

        def count(sample: Sample) -> None:
            nonlocal measured
            measured += sample.sent_ns >= from_ns
            record(sample)

        def ended() -> bool:
            elapsed_ns = self._clock.now_ns() - from_ns
            enough = measured >= spec.requests / spec.workers
            return elapsed_ns >= (planned_ns if enough else STRETCH * planned_ns)

        self._loop = ClosedLoop(asks, count, len(asks) / per_s, self._clock)
        self._loop.run(spec.begin_ns, ended)
        return from_ns

    def _asks_of(self, spec: MeasurementSpec, worker: int) -> list[Callable[[], Sample]]:
        """Return one function for each connection to the target; together they go through the payloads."""
        measurement = spec.turn.measurement
        if measurement not in self._asks:
            target, payloads = self._loaded[measurement]
            mine = max(1, len(range(worker, self._connections, spec.workers)))
            queue = itertools.cycle(payloads_of(payloads, worker, spec.workers))
            callers = [Caller(target, self._clock) for _ in range(mine)]
            self._callers += callers
            self._asks[measurement] = [functools.partial(_ask, caller, queue) for caller in callers]
        return self._asks[measurement]


def _ask(caller: Caller, payloads: Iterator[Payload]) -> Sample:
    return caller.ask(next(payloads))


class GeneratorUser(User):  # type: ignore[misc]
    """Runs a Generator's orders as they come; one user in each worker."""

    abstract = True
    host = ""
    wait_time = constant(0)
    generator: ClassVar[Generator]
    specs: ClassVar["gevent.queue.Queue[MeasurementSpec]"]

    @task  # type: ignore[untyped-decorator]
    def load(self) -> None:
        """Take the next specification, load, and send the rows."""
        spec = self.specs.get()
        runner = self.environment.runner
        name = str(spec.turn.measurement)
        try:
            recorder, facts = self.generator.run(
                spec, runner.worker_index, lambda sample: tell(self.environment, name, sample)
            )
            rows = ipc_bytes(recorder.table(""))
        except Exception as error:
            runner.send_message(FAULT, {FAULT: f"{type(error).__name__}: {error}"})
            raise
        runner.send_message(ROWS, {"rows": rows, "facts": facts})


def user_class(generator: Generator) -> type[GeneratorUser]:
    """Return the user of a generator."""
    return type("LoadGenerator", (GeneratorUser,), {"generator": generator, "specs": gevent.queue.Queue()})


def listen(environment: Any, user: type[GeneratorUser]) -> None:
    """Register the coordinator's messages with a worker's user."""
    runner = environment.runner
    runner.register_message(ORDER, lambda msg, **_: user.specs.put(MeasurementSpec.from_dict(msg.data)))
    runner.register_message(STOP, lambda **_: user.generator.stop())


def ipc_bytes(table: pa.Table) -> bytes:
    """Return a table as Arrow's stream format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    raw: bytes = sink.getvalue().to_pybytes()
    return raw
