"""When a measurement may end early: so much is over the objective that the rest cannot help, or the backlog only grows.

An open loop goes on whatever the server does, and a measurement at twice what a server can do ends with thousands of
requests in flight, which the next measurement would meet. Each worker watches its own share of the requests.
"""

import itertools
import math
from collections.abc import Callable, Sequence

from loadtest.open_loop import OVERLOADED
from loadtest.recorder import Sample

# At least so long is looked at before a measurement may end: the generator's share of a core must be known by then,
# too.
MIN_S = 0.5
# The requests in flight are averaged over windows; the last WINDOWS of them are looked at.
WINDOW_S, WINDOWS = 0.1, 10
# Student's t of their slope. Windows lean on one another, so it is far above what chance gives 10 independent ones; a
# pause of the machine, one high window, gives at most 1.8.
STEEP = 5.0
BACKLOG, HOPELESS = "backlog", "over the objective"


def growing(in_flight: Sequence[float], bearable: float) -> bool:
    """Return whether a backlog certainly grows. in_flight: the mean of each window; bearable: not yet a backlog."""
    last = in_flight[-WINDOWS:]
    if len(last) < WINDOWS or last[-1] <= bearable:
        return False
    middle, mean = (WINDOWS - 1) / 2, math.fsum(last) / WINDOWS
    across = math.fsum((value - mean) ** 2 for value in last)
    along = math.fsum((number - middle) * (value - mean) for number, value in enumerate(last))
    share = along**2 / (across * math.fsum((number - middle) ** 2 for number in range(WINDOWS))) if across else 0.0
    return along > 0 and share * (WINDOWS - 2) > STEEP**2 * (1 - share)


class Watch:
    """Counts what one worker has in flight and over the objective, and calls `stop` when one of them is too much.

    begin_ns: when the measurement begins, by the clock of what it is told. most_over: requests over `over_us`. per_s:
    this worker's rate. `reason` says why it stopped, or is empty.
    """

    def __init__(self, begin_ns: int, over_us: float, most_over: int, per_s: float) -> None:
        self.reason = ""
        self.stop: Callable[[], None] = lambda: None
        self._least_ns = begin_ns + int(MIN_S * 1e9)
        self._over_us = over_us
        self._most_over = most_over
        # As many are in flight when each takes twice as long as the objective (Little's law).
        self._bearable = 2 * per_s * over_us / 1e6
        self._in_flight = self._over = 0
        self._means: list[float] = []
        self._seen: list[int] = []
        self._ends_ns = (begin_ns + int(number * WINDOW_S * 1e9) for number in itertools.count(1))
        self._end_ns = next(self._ends_ns)

    def sent(self, now_ns: int) -> None:
        """Note that a request is sent."""
        self._in_flight += 1
        if now_ns >= self._end_ns:
            self._close_window(now_ns)
        self._seen.append(self._in_flight)

    def ended(self, sample: Sample, now_ns: int) -> None:
        """Note a request's end, or that it was not sent since too many are in flight."""
        self._in_flight -= sample.code != OVERLOADED
        self._over += not sample.ok or (sample.response_us or 0.0) > self._over_us
        if self._over >= self._most_over and now_ns >= self._least_ns:
            self._halt(HOPELESS)

    def _close_window(self, now_ns: int) -> None:
        if self._seen:
            self._means.append(sum(self._seen) / len(self._seen))
            self._seen.clear()
        while now_ns >= self._end_ns:
            self._end_ns = next(self._ends_ns)
        if growing(self._means, self._bearable):
            self._halt(BACKLOG)

    def _halt(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.stop()
