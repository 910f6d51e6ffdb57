"""The load generator: a Locust user that loads one block after another as it is told, and gives their rows.

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
from loadtest.open_loop import OpenLoop
from loadtest.order import Order
from loadtest.payloads import Payload
from loadtest.plan import CLOSED, Block
from loadtest.recorder import Recorder, Sample
from loadtest.schedule import share
from loadtest.timer import Timer
from loadtest.users import tell
from loadtest.watch import Watch

ORDER, STOP, ROWS, FAULT = "servepath-order", "servepath-stop", "servepath-rows", "servepath-fault"
# A closed loop on a slow path gets longer to reach its number of requests, but not for ever.
STRETCH = 4


Loaded = tuple[Target, Sequence[Payload]]


class Generator:
    """What one worker does: runs orders on connections that it keeps. worker: its number, from 0."""

    def __init__(self, loaded: Sequence[Loaded], connections: int, clock: Clock, timer: Timer) -> None:
        self._loaded = {target.block: (target, payloads) for target, payloads in loaded}
        self._connections = connections
        self._clock = clock
        self._timer = timer
        self._asks: dict[Block, list[Callable[[], Sample]]] = {}
        self._callers: list[Caller] = []
        self._loop: OpenLoop | ClosedLoop | None = None
        self._watch: Watch | None = None

    def close(self) -> None:
        """Close all connections."""
        for caller in self._callers:
            caller.close()

    def stop(self) -> None:
        """Cut the block short that runs now, if any."""
        if self._loop is not None:
            self._loop.stop()

    def end(self) -> None:
        """Cut the block short, and wait for its last reply: nobody uses timer and connections any more."""
        if self._loop is not None:
            self._loop.stop()
            self._loop.join()

    def run(self, order: Order, worker: int, listen: Callable[[Sample], None]) -> tuple[Recorder, dict[str, Any]]:
        """Load a block; give its samples and what was measured of this worker meanwhile. `listen` hears each sample."""
        recorder = Recorder(order.turn)

        def record(sample: Sample) -> None:
            recorder.samples.append(sample)
            listen(sample)

        before_s, began_ns = time.process_time(), self._clock.now_ns()
        run = self._run_closed if order.load_model == CLOSED else self._run_open
        from_ns = run(order, worker, record)
        ended_ns, cpu_s = self._clock.now_ns(), time.process_time() - before_s
        if order.measured:
            recorder.measure_from_ns = from_ns
        return recorder, {
            "seconds": (ended_ns - from_ns) / 1e9,
            "generator_cpu": round(cpu_s / ((ended_ns - began_ns) / 1e9), 3),
            "clock": {"drift_us": round(self._clock.drift_us(), 1)},
            "stopped": self._watch.reason if self._watch else "",
        }

    def _run_open(self, order: Order, worker: int, record: Callable[[Sample], None]) -> int:
        """Load, and give the moment from which requests are measured."""
        moments, asks = order.moments(), itertools.cycle(self._asks_of(order, worker))
        self._watch = watch = self._watch_of(order)

        def ask() -> Sample:
            if watch is not None:
                watch.sent(self._clock.now_ns())
            return next(asks)()

        def told(sample: Sample) -> None:
            record(sample)
            if watch is not None:
                watch.ended(sample, self._clock.now_ns())

        due_ns = iter([order.begin_ns + moment for moment in share(moments, worker, order.workers)])
        self._loop = OpenLoop(due_ns, ask, told, self._clock)
        if watch is not None:
            watch.stop = self._loop.stop
        self._loop.run(self._timer)
        return order.begin_ns + (moments[order.settle] if order.settle < len(moments) else moments[-1] + 1)

    def _watch_of(self, order: Order) -> Watch | None:
        if not order.most_over:
            return None
        return Watch(order.begin_ns, order.over_us, order.most_over_each, order.rate / order.workers)

    def _run_closed(self, order: Order, worker: int, record: Callable[[Sample], None]) -> int:
        asks, per_s = self._asks_of(order, worker), order.rate / order.workers
        from_ns = order.begin_ns + int(order.settle / order.rate * 1e9)
        planned_ns = int(order.requests / order.rate * 1e9)
        measured = 0

        def count(sample: Sample) -> None:
            nonlocal measured
            measured += sample.sent_ns >= from_ns
            record(sample)

        def ended() -> bool:
            elapsed_ns = self._clock.now_ns() - from_ns
            enough = measured >= order.requests / order.workers
            return elapsed_ns >= (planned_ns if enough else STRETCH * planned_ns)

        self._loop = ClosedLoop(asks, count, len(asks) / per_s, self._clock)
        self._loop.run(order.begin_ns, ended)
        return from_ns

    def _asks_of(self, order: Order, worker: int) -> list[Callable[[], Sample]]:
        """Give one function for each connection to the order's target; they take turns with the payloads."""
        block = order.turn.block
        if block not in self._asks:
            target, payloads = self._loaded[block]
            mine = max(1, len(range(worker, self._connections, order.workers)))
            queue = itertools.cycle(payloads[worker :: order.workers])
            callers = [Caller(target, self._clock) for _ in range(mine)]
            self._callers += callers
            self._asks[block] = [functools.partial(_ask, caller, queue) for caller in callers]
        return self._asks[block]


def _ask(caller: Caller, payloads: Iterator[Payload]) -> Sample:
    return caller.ask(next(payloads))


class GeneratorUser(User):  # type: ignore[misc]
    """Runs a Generator's orders as they come; one user in each worker."""

    abstract = True
    host = ""
    wait_time = constant(0)
    generator: ClassVar[Generator]
    orders: ClassVar["gevent.queue.Queue[Order]"]

    @task  # type: ignore[untyped-decorator]
    def load(self) -> None:
        """Take the next order, load, and send the rows."""
        order = self.orders.get()
        runner = self.environment.runner
        name = str(order.turn.block)
        try:
            recorder, facts = self.generator.run(
                order, runner.worker_index, lambda sample: tell(self.environment, name, sample)
            )
            rows = ipc_bytes(recorder.table(""))
        except Exception as error:
            runner.send_message(FAULT, {FAULT: f"{type(error).__name__}: {error}"})
            raise
        runner.send_message(ROWS, {"rows": rows, "facts": facts})


def user_class(generator: Generator) -> type[GeneratorUser]:
    """Give the user of a generator."""
    return type("LoadGenerator", (GeneratorUser,), {"generator": generator, "orders": gevent.queue.Queue()})


def listen(environment: Any, user: type[GeneratorUser]) -> None:
    """Let a worker's user hear the coordinator's messages."""
    runner = environment.runner
    runner.register_message(ORDER, lambda msg, **_: user.orders.put(Order.from_dict(msg.data)))
    runner.register_message(STOP, lambda **_: user.generator.stop())


def ipc_bytes(table: pa.Table) -> bytes:
    """Give a table as Arrow's stream format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    raw: bytes = sink.getvalue().to_pybytes()
    return raw
