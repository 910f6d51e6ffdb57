"""The closed loop: each caller waits for its reply, so a stalled server is asked less often, and looks better.

It is what a fixed number of patient clients see. It says nothing about how long requests wait that arrive meanwhile.
"""

from collections.abc import Callable, Sequence

import gevent
import gevent.pool

from loadtest.calls import Clock
from loadtest.recorder import Sample

NS_PER_S = 1e9


class ClosedLoop:
    """Callers, each of which begins a request every `interval_s`, or as soon as the last was answered.

    One that begins late moves its following ones: lost time is not made up. The callers begin one after another within
    one interval, or all would send at the same moments.
    """

    def __init__(
        self, asks: Sequence[Callable[[], Sample]], record: Callable[[Sample], None], interval_s: float, clock: Clock
    ) -> None:
        self._asks = asks
        self._record = record
        self._interval_ns = int(interval_s * NS_PER_S)
        self._clock = clock
        self._stopped = False
        self._pool = gevent.pool.Pool()

    def run(self, begin_ns: int, ended: Callable[[], bool]) -> None:
        """Make all callers send until `ended` is true; wait for the last replies."""
        for turn, ask in enumerate(self._asks):
            self._pool.spawn(self._caller, ask, begin_ns + self._interval_ns * turn // len(self._asks), ended)
        self._pool.join(raise_error=True)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def join(self) -> None:
        """Wait for the last reply of a loop that was stopped."""
        self._pool.join()

    def _caller(self, ask: Callable[[], Sample], due_ns: int, ended: Callable[[], bool]) -> None:
        while not (self._stopped or ended()):
            gevent.sleep(max(due_ns - self._clock.now_ns(), 0) / NS_PER_S)
            self._record(ask())
            due_ns = max(due_ns + self._interval_ns, self._clock.now_ns())
