"""Every call's deadline, without a timer for every call: those that end in one tick of the clock share one.

A timer of its own cost a call about as much as reading its request; nearly all of them were cancelled unused.
"""

import asyncio
from heapq import heappop, heappush
from time import monotonic

from services.dataplane.backend import Call

# A call is ended at most this much after its deadline.
TICK_S = 0.01


class Deadlines:
    """Expires the calls that it watches; all on the event loop's thread."""

    def __init__(self) -> None:
        self._due: dict[int, dict[Call, None]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: Call) -> None:
        """Expire the call once its deadline has passed, unless it is forgotten before."""
        tick = _tick_of(call)
        calls = self._due.get(tick)
        if calls is None:
            calls = self._due[tick] = {}
            heappush(self._ticks, tick)
        calls[call] = None
        if self._timer is None:
            self._sleep()

    def forget(self, call: Call) -> None:
        """Forget a call that has ended."""
        tick = _tick_of(call)
        calls = self._due.get(tick)
        if calls is not None:
            calls.pop(call, None)
            if not calls:
                del self._due[tick]

    def _sleep(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._wake)

    def _wake(self) -> None:
        now = int(monotonic() / TICK_S)
        while self._ticks and (self._ticks[0] <= now or self._ticks[0] not in self._due):
            for call in self._due.pop(heappop(self._ticks), ()):
                call.expire()
        if self._ticks:
            self._sleep()
        else:
            self._timer = None


def _tick_of(call: Call) -> int:
    return int(call.deadline / TICK_S) + 1
