"""The open loop: every request leaves when its schedule says so, whether or not earlier ones were answered.

One that cannot leave on time leaves late, and its response time counts from the schedule: what a stalled server or a
slow generator costs is seen, not omitted. The greenlet that waited for a moment sends the request itself, and another
one waits for the next: handing it over would cost 50 us.
"""

from collections.abc import Callable, Iterator

import gevent.pool

from loadtest.calls import Clock
from loadtest.recorder import Sample
from loadtest.timer import Timer

# Requests in flight, of one worker; beyond that a request is not sent but recorded as an error.
MAX_OUTSTANDING = 1000
OVERLOADED = "OVERLOADED_GENERATOR"


class OpenLoop:
    """Sends one request at each moment of a schedule (Clock.now_ns) and hands over a sample of each.

    ask: send one, and wait for its reply.
    """

    def __init__(
        self, due_ns: Iterator[int], ask: Callable[[], Sample], record: Callable[[Sample], None], clock: Clock
    ) -> None:
        self._due_ns = due_ns
        self._ask = ask
        self._record = record
        self._clock = clock
        self._outstanding = 0
        self._stopped = False
        self._faults: list[Exception] = []
        self._pool = gevent.pool.Pool()

    def run(self, timer: Timer) -> None:
        """Send by the schedule, and wait for the last reply. Raises what sending or recording raised: a bug."""
        self._pool.spawn(self._lead, timer)
        self._pool.join()
        if self._faults:
            raise self._faults[0]

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def join(self) -> None:
        """Wait for the last reply of a loop that was stopped."""
        self._pool.join()

    def _lead(self, timer: Timer) -> None:
        try:
            due_ns = self._next(timer)
            if due_ns is not None:
                self._pool.spawn(self._lead, timer)
                self._send(due_ns)
        except Exception as error:  # noqa: BLE001 - a greenlet's would be printed and forgotten
            self._faults.append(error)
            self.stop()

    def _next(self, timer: Timer) -> int | None:
        """Wait for the next request that can be sent and return its moment, None after the last one."""
        for due_ns in self._due_ns:
            timer.wait_until(self._clock.perf_counter_ns(due_ns))
            if self._stopped:
                return None
            if self._outstanding < MAX_OUTSTANDING:
                return due_ns
            self._record(self._not_sent(due_ns))
        return None

    def _send(self, due_ns: int) -> None:
        self._outstanding += 1
        try:
            self._record(self._ask().scheduled(due_ns))
        finally:
            self._outstanding -= 1

    def _not_sent(self, due_ns: int) -> Sample:
        now_ns = self._clock.now_ns()
        return Sample(now_ns, 0.0, ok=False, code=OVERLOADED, wrong=False, rows=0).scheduled(due_ns)
