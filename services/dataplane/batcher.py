"""The policy that nothing waits for ever, and that what has to wait leaves together.

A call leaves at once while fewer than `max_in_flight` calls are at the inner backend. Otherwise it waits, and leaves
with whatever else has come meanwhile, or its share of that, merged into one call of many rows. No timer: at low load
nothing is delayed, at high load the batches grow by themselves. Calls that came in one list are one arrival. When the
queue is full, a call is refused at once.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, perf_counter_ns

from servepath.protocols.errors import (
    BackendBadReply,
    BadInput,
    DeadlineStage,
    Internal,
    Overloaded,
    ServeError,
    TooLarge,
)
from servepath.protocols.types import Request
from services.dataplane.backend import Backend, Call, Outcome
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batching_controller import BatchingController
from services.dataplane.rows import NONE, Key, Names, concat, key_of, lengths_of, size_of, split

log = logging.getLogger(__name__)
# Where recent calls took longer, a merged one has no more than its share of the rows outstanding (ADR 9). MiniLM, 16
# callers of 2 rows, 2 engine threads: 139 rows/s instead of 112 (2 x86_64 cores, 2026-11-29).
SHARED_S = 20e-3
RECENT = 8
# Of calls that are filled up to one length, the longest and the shortest.
LONGER = 1.3
# An ordered set: a call that ends while it waits leaves at once, from wherever it stands.
Waiting = OrderedDict[Call, None]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one path.

    max_in_flight: calls at the inner backend at once. max_queue: calls waiting for that. max_rows, max_bytes: of one
    merged call; max_rows 1 merges nothing, and is the only right value where rows are not independent of each other.
    padded: inputs whose second axis may be filled up with zeros, so that calls of nearly one length are merged.
    """

    max_in_flight: int = 2
    max_queue: int = 1024
    max_rows: int = 64
    max_bytes: int = 64 * 2**10
    padded: Names = NONE


class Batcher:
    """Bounds and merges the calls of one path or version.

    Calls with equal signatures wait in one group, and groups take turns, so that one shape cannot starve another.
    on_send: called with the rows of every call that goes to the inner backend. merging: whether waiting calls may leave
    as one; it may change at any time.
    """

    def __init__(self, inner: Backend, limits: BatchLimits, batch_scope: BatchScope) -> None:
        """`batch_scope`: open while the caller is handing over a list of calls."""
        self.on_send: Callable[[int], None] = _nothing
        self.merging = True
        self._inner = inner
        self._limits = limits
        self._batch_scope = batch_scope
        self._controller = BatchingController(limits.max_in_flight)
        self._in_flight = 0
        self._rows_in_flight = 0
        self._rows_queued = 0
        self._call_s = 0.0
        self._sending = False
        self._groups: OrderedDict[Key | None, Waiting] = OrderedDict()
        self._queued = 0
        # Parts of a merged call that was refused for its content or size; they leave before anything else.
        self._parts: deque[Sequence[Call]] = deque()
        self._busy_until = 0.0

    @property
    def in_flight(self) -> int:
        """Return the number of calls at the inner backend, a merged one counted once."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Return the number of calls that wait."""
        return self._queued

    @property
    def merges(self) -> bool:
        """Return whether calls that wait now would leave as one."""
        return self._limits.max_rows > 1 and self.merging and self._controller.merging

    def submit(self, call: Call) -> None:
        """Send the call, or let it wait, or refuse it."""
        free = self._in_flight < self._limits.max_in_flight and not self._sending
        if free and not self._queued and not (self._batch_scope.open and self._limits.max_queue):
            self._send((call,), waited=False)
        elif self._queued < self._limits.max_queue:
            self._wait(call)
        elif free:  # the queue is full of calls that only wait for the end of the list
            self._pump()
            self._wait(call)
        else:
            call.end(Overloaded(f"{self._in_flight} requests in flight and {self._queued} waiting on this path"))

    def restart(self) -> None:
        """Leave the next calls out of what merging is judged by: the server may have just started."""
        self._controller.restart()

    def ready(self) -> bool:
        """Return whether the inner backend is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the inner backend."""
        await self._inner.close()

    def _wait(self, call: Call) -> None:
        if self._batch_scope.open and not self._queued:
            self._batch_scope.on_exit(self._pump)
        key = self._key_of(call)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = OrderedDict()
        group[call] = None
        self._queued += 1
        self._rows_queued += call.rows
        call.queued_ns -= perf_counter_ns()
        call.owner = self

    def on_done(self, call: Call) -> None:
        """Remove a call that ended while it waited."""
        key = self._key_of(call)
        self._take(key, self._groups[key], (call,))

    def _key_of(self, call: Call) -> Key | None:
        return key_of(call.request, self._limits.padded) if self._limits.max_rows > 1 else None

    def _take(self, key: Key | None, group: Waiting, calls: Sequence[Call]) -> None:
        """Remove calls from their group."""
        now_ns = perf_counter_ns()
        for call in calls:
            del group[call]
            call.queued_ns += now_ns
            call.owner = None
            self._rows_queued -= call.rows
        self._queued -= len(calls)
        if not group:
            del self._groups[key]

    def _pump(self) -> None:
        """Send what waits while there is room."""
        if self._sending:
            return  # a call ended while it was sent below: that loop goes on, or a full queue would nest too deep
        self._sending = True
        try:
            while self._in_flight < self._limits.max_in_flight and (self._parts or self._groups):
                self._send(self._next_part() if self._parts else self._next_batch(), waited=True)
        finally:
            self._sending = False

    def _next_part(self) -> Sequence[Call]:
        return [call for call in self._parts.popleft() if call.outcome is None]

    def _next_batch(self) -> Sequence[Call]:
        """Remove the first group's oldest call, and those behind it that fit the same batch."""
        key, group = next(iter(self._groups.items()))
        batch = self._fitting(group) if self.merges else [next(iter(group))]
        self._take(key, group, batch)
        if group:
            self._groups.move_to_end(key)
        return batch

    def _fitting(self, group: Waiting) -> list[Call]:
        batch: list[Call] = []
        rows = size = 0
        max_rows = self._limits.max_rows if self._call_s < SHARED_S else min(self._limits.max_rows, self._share())
        lengths = _Lengths(self._limits.padded)
        max_bytes = self._limits.max_bytes / (LONGER if self._limits.padded else 1)
        for call in group:
            if not lengths.take(call.request):
                continue
            rows += call.rows
            size += size_of(call.request)
            if batch and (rows > max_rows or size > max_bytes):
                break
            batch.append(call)
        return batch

    def _share(self) -> int:
        """Return the rows of a call where all calls in flight get as many of those outstanding."""
        return -(-(self._rows_in_flight + self._rows_queued) // self._limits.max_in_flight)

    def _send(self, members: Sequence[Call], *, waited: bool) -> None:
        """Send calls as one; a lone one as it is."""
        if not members:
            return  # every one of a part has ended
        if not self._in_flight:
            self._busy_until = perf_counter()
        self._in_flight += 1
        call = members[0] if len(members) == 1 else self._merged(members)
        call.add_done_callback(partial(self._returned, call, members, perf_counter(), waited))
        self._rows_in_flight += call.rows
        self.on_send(call.rows)
        try:
            self._inner.submit(call)
        except Exception:
            log.exception("a backend raised instead of ending the call")
            call.end(Internal())

    def _merged(self, members: Sequence[Call]) -> Call:
        return _Members(members, self._limits.padded).merged

    def _returned(self, call: Call, members: Sequence[Call], sent: float, waited: bool, outcome: Outcome) -> None:  # noqa: FBT001 - bound by partial
        self._in_flight -= 1
        self._rows_in_flight -= call.rows
        now = perf_counter()
        answered = 0
        if not isinstance(outcome, ServeError):  # a refusal or a deadline says nothing of how long calls take
            # Zeros that fill up shorter members are no answer to anybody.
            padded = self._limits.padded
            answered = sum([size_of(each.request) for each in members]) if padded else size_of(call.request)
            self._call_s += (now - sent - self._call_s) / RECENT
        self._controller.record(answered, now - self._busy_until, waited=waited)
        self._busy_until = now
        if len(members) > 1:
            self._give_out(members, outcome)
        self._pump()

    def _give_out(self, members: Sequence[Call], outcome: Outcome) -> None:
        """End every member, or send it again in a smaller batch."""
        if isinstance(outcome, BadInput | TooLarge):
            # Somebody is at fault, or all are too large together: by halves each gets an outcome of its own.
            half = len(members) // 2
            self._parts.extend((members[:half], members[half:]))
        elif isinstance(outcome, ServeError):
            for member in members:
                member.end(outcome)
        else:
            try:
                answers: Sequence[Outcome] = split(outcome, members)
            except ValueError:
                log.exception("a batched reply cannot be split into its rows")
                answers = [BackendBadReply("the model server's reply does not have the requested rows")] * len(members)
            for member, answer in zip(members, answers, strict=True):
                member.end(answer)


class _Lengths:
    """Which calls may stand beside each other: those whose lengths differ by at most LONGER."""

    def __init__(self, padded: Names) -> None:
        self._padded = padded
        self._shortest: Mapping[str, int] = {}
        self._longest: Mapping[str, int] = {}

    def take(self, request: Request) -> bool:
        """Return whether a request may join those that were taken, and take it."""
        if not self._padded:
            return True
        own = lengths_of(request, self._padded)
        shortest = {name: min(length, self._shortest.get(name, length)) for name, length in own.items()}
        longest = {name: max(length, self._longest.get(name, length)) for name, length in own.items()}
        # Of nothing and something, too: a row that is all zeros is another one.
        if any(longest[name] > LONGER * shortest[name] for name in own):
            return False
        self._shortest, self._longest = shortest, longest
        return True


class _Members:
    """The calls of a merged one: it lasts as long as the most patient of them, and as any of them."""

    def __init__(self, members: Sequence[Call], padded: Names) -> None:
        request = concat([member.request for member in members], padded)
        self.merged = Call(request, max([member.deadline for member in members]))
        self.merged.rows = sum([member.rows for member in members])
        self._alive = len(members)
        for member in members:
            member.stage = DeadlineStage.IN_BACKEND
            member.owner = self

    def on_done(self, _: Call) -> None:
        """Cancel the merged call when its last member has ended; one that has ended itself stays as it is."""
        self._alive -= 1
        if not self._alive:
            self.merged.cancel()


def _nothing(_: int) -> None:
    pass
