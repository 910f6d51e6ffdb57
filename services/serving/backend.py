"""The seam of the data plane: a Call goes in, and ends exactly once with an answer or an error.

A policy is a Backend that wraps a Backend. Calls are ended by callback and not by coroutine: one asyncio task per
request costs more than all the policies together. Everything here runs on the event loop's thread.
"""

import logging
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

from services.wire.errors import Cancelled, Expired, ServeError, Where
from services.wire.types import Answer, Request

log = logging.getLogger(__name__)

Outcome = Answer | ServeError


class Holder(Protocol):
    """Something that a call waits in."""

    def left(self, call: "Call") -> None:
        """Let go of a call that has ended. Raises nothing."""


class Call:
    """One request on its way.

    deadline: time.monotonic() seconds by which the caller must have its outcome. arrived_ns: time.perf_counter_ns() of
    its arrival. queued_ns: how long it waited for a place among the calls at a server, below 0 while it waits. rows:
    set by validation. where: where its deadline would strike now. holder: who is told first when the call ends; cheaper
    than a callback for what happens to nearly every call, and set anew as the call goes on.
    """

    __slots__ = ("_callbacks", "arrived_ns", "deadline", "holder", "outcome", "queued_ns", "request", "rows", "where")

    def __init__(self, request: Request, deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        self.arrived_ns = perf_counter_ns()
        self.queued_ns = 0
        self.rows = 0
        self.where = Where.IN_QUEUE
        self.outcome: Outcome | None = None
        self.holder: Holder | None = None
        self._callbacks: list[Callable[[Outcome], None]] = []

    def then(self, callback: Callable[[Outcome], None]) -> None:
        """Have `callback` called with the outcome; the last one added is called first, as policies unwind."""
        self._callbacks.append(callback)

    def end(self, outcome: Outcome) -> None:
        """End the call. Only the first outcome counts: a reply that comes after the deadline finds the call ended.

        A callback that raises is logged and keeps no other from being called.
        """
        if self.outcome is None:
            self.outcome = outcome
            if self.holder is not None:
                self.holder.left(self)
            while self._callbacks:
                try:
                    self._callbacks.pop()(outcome)
                except Exception:
                    log.exception("something that a call's end was told to raised")

    def cancel(self) -> None:
        """End the call because its caller went away."""
        self.end(Cancelled())

    def expire(self) -> None:
        """End the call because its deadline passed."""
        self.end(Expired(self.where))


class Backend(Protocol):
    """Something that ends calls."""

    def submit(self, call: Call) -> None:
        """Take a call; `call.end` follows exactly once, now or later. Raises nothing."""

    def ready(self) -> bool:
        """Say whether a call submitted now would probably be answered."""

    async def close(self) -> None:
        """Give back connections and threads; no call may be submitted any more."""
