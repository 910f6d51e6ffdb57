"""Where the load comes from: this process, or several workers that Locust's master leads; both look alike from here."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import gevent
import gevent.event
import gevent.queue
import pyarrow as pa
from locust import runners
from locust.env import Environment

from loadtest.calls import DEADLINE_S
from loadtest.generator import FAULT, ORDER, ROWS, STOP, STRETCH, Generator, GeneratorUser, listen, user_class
from loadtest.measurement_spec import MeasurementSpec
from loadtest.recorder import merge
from loadtest.run import RunError
from servepath.cli.signals import leave_terminal, stop_signals
from servepath.results.names import CLOSED
from servepath.settings import SettingsError

CONNECT_S = 60.0
# What a worker may take beyond the schedule and the last reply's deadline: to write and send its rows.
SLACK_S = 10.0
POLL_S = 0.1
LOOK_S = 1.0


class Interruption:
    """Ctrl-C, SIGTERM or SIGHUP, as an event that can be waited for; no exception in the middle of a call."""

    def __init__(self) -> None:
        self.event = gevent.event.Event()
        self.signal: int | None = None
        for number in stop_signals():
            gevent.signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        leave_terminal(number)
        self.signal = number
        self.event.set()


class InterruptedRun(Exception):
    """A signal came; the measurement that ran is not kept."""


class Loaded(NamedTuple):
    """A measurement's rows from all workers, and what each of them says of itself."""

    table: pa.Table
    facts: list[dict[str, Any]]


class Workers:
    """All workers behind one runner. lead_s: how long an order takes to reach them."""

    def __init__(self, runner: Any, count: int, interruption: Interruption, lead_s: float) -> None:
        self.count = count
        self._runner = runner
        self._interruption = interruption
        self._lead_ns = int(lead_s * 1e9)
        self._answers: gevent.queue.Queue[dict[str, Any] | None] = gevent.queue.Queue()
        runner.register_message(ROWS, lambda msg, **_: self._answers.put(msg.data))
        runner.register_message(FAULT, lambda msg, **_: self._answers.put(msg.data))
        interruption.event.rawlink(lambda _: self._answers.put(None))

    def load(self, spec: MeasurementSpec, now_ns: int) -> Loaded:
        """Load one measurement. Raises InterruptedRun and RunError."""
        if self._interruption.event.is_set():
            raise InterruptedRun
        spec = replace(spec, workers=self.count, begin_ns=now_ns + self._lead_ns)
        self._runner.send_message(ORDER, spec.to_dict())
        planned_s = spec.planned_s * (STRETCH if spec.load_model == CLOSED else 2)
        until_s = time.monotonic() + planned_s + DEADLINE_S + SLACK_S
        answers = [self._answer(until_s) for _ in range(self.count)]
        tables = [pa.ipc.open_stream(answer["rows"]).read_all() for answer in answers]
        return Loaded(merge(tables), [answer["facts"] for answer in answers])

    def _answer(self, until_s: float) -> dict[str, Any]:
        while True:
            try:
                answer: dict[str, Any] | None = self._answers.get(timeout=LOOK_S)
                break
            except gevent.queue.Empty:
                if self._runner.worker_count < self.count or time.monotonic() > until_s:
                    raise RunError("a worker is lost, or sends no rows") from None
        if answer is None:
            self._runner.send_message(STOP)
            raise InterruptedRun
        if FAULT in answer:
            raise RunError(f"a worker failed: {answer[FAULT]}")
        if answer["facts"]["stopped"]:  # half of the load shows nothing
            self._runner.send_message(STOP)
        return answer


@contextmanager
def here(generator: Generator, interruption: Interruption) -> Iterator[Workers]:
    """Yield this process as the only worker."""
    user = user_class(generator)
    environment = Environment(user_classes=[user])
    runner = environment.create_local_runner()
    listen(environment, user)
    runner.start(1, spawn_rate=1)
    try:
        yield Workers(runner, 1, interruption, lead_s=0.02)
    finally:
        runner.quit()


@contextmanager
def elsewhere(
    arguments: Sequence[str], own: int, count: int, listen_at: tuple[str, int], interruption: Interruption
) -> Iterator[Workers]:
    """Start `own` workers with this command's arguments, wait until there are `count`, and lead them.

    Raises SettingsError when they do not come, InterruptedRun.
    """
    # Of the user only the name counts: none runs here.
    environment = Environment(user_classes=[type("LoadGenerator", (GeneratorUser,), {})])
    # A worker that a busy machine held up for seconds is not lost.
    runners.HEARTBEAT_LIVENESS = 15
    runner = environment.create_master_runner(*listen_at)
    address = f"{listen_at[0]}:{runner.server.port}"
    with ExitStack() as stack:
        for _ in range(own):
            stack.enter_context(_child([*arguments, "--worker", address]))
        stack.callback(runner.quit)  # the last in is the first out: the workers are told before they are waited for
        workers = Workers(runner, count, interruption, lead_s=0.3)
        _wait_for(runner, count, address, interruption)
        runner.start(count, spawn_rate=count)
        yield workers


@contextmanager
def _child(arguments: Sequence[str]) -> Iterator[None]:
    # A process group of its own: the terminal's Ctrl-C is for us alone, who tell the workers.
    process = subprocess.Popen([sys.executable, "-m", "loadtest", *arguments], process_group=0)
    try:
        yield
    finally:
        try:
            process.wait(2 * DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(runner: Any, count: int, address: str, interruption: Interruption) -> None:
    waited_s = 0.0
    while len(runner.clients.ready) < count:
        if interruption.event.wait(POLL_S):
            raise InterruptedRun
        waited_s += POLL_S
        if waited_s > CONNECT_S:
            ready = len(runner.clients.ready)
            raise SettingsError(f"{ready} of {count} workers came to {address} within {CONNECT_S:.0f} s")


def work(generator: Generator, master: tuple[str, int], interruption: Interruption) -> None:
    """Work until the master ends the run, or a signal comes."""
    user = user_class(generator)
    environment = Environment(user_classes=[user])
    runner = environment.create_worker_runner(*master)
    listen(environment, user)
    quitter = gevent.spawn(lambda: (interruption.event.wait(), runner.quit()))
    runner.greenlet.join()  # until the master says "quit", or is gone
    quitter.kill()
