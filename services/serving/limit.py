"""The policy that nothing waits for ever: so many calls in flight, so many waiting, the rest refused at once."""

from collections import OrderedDict

from services.serving.backend import Backend, Call, Outcome
from services.wire.errors import Overloaded


class Limit:
    """At most `max_in_flight` calls at the inner backend and `max_queue` waiting, first come first served.

    A waiting call that expires or is cancelled never reaches the inner backend.
    """

    def __init__(self, inner: Backend, max_in_flight: int, max_queue: int) -> None:
        self._inner = inner
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._in_flight = 0
        self._sending = False
        # An ordered set: a call that ends while it waits leaves at once, from wherever it stands.
        self._waiting: OrderedDict[Call, None] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """Give the number of calls at the inner backend."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Give the number of calls that wait."""
        return len(self._waiting)

    def submit(self, call: Call) -> None:
        """Pass the call on, or let it wait, or refuse it."""
        if self._in_flight < self._max_in_flight:
            self._send(call)
        elif len(self._waiting) < self._max_queue:
            self._wait(call)
        else:
            call.end(Overloaded(f"{self._in_flight} requests in flight and {len(self._waiting)} waiting on this path"))

    def ready(self) -> bool:
        """Say whether the inner backend is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the inner backend."""
        await self._inner.close()

    def _wait(self, call: Call) -> None:
        self._waiting[call] = None
        call.then(lambda _: self._waiting.pop(call, None))

    def _send(self, call: Call) -> None:
        self._in_flight += 1
        call.then(self._returned)
        self._inner.submit(call)

    def _returned(self, _: Outcome) -> None:
        self._in_flight -= 1
        if self._sending:
            return  # a call ended while it was sent below: that loop goes on, or a full queue would nest too deep
        self._sending = True
        try:
            while self._waiting and self._in_flight < self._max_in_flight:
                call, _none = self._waiting.popitem(last=False)
                self._send(call)
        finally:
            self._sending = False
