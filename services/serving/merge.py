"""The policy that nothing waits for ever, and that what has to wait leaves together.

A call leaves at once while fewer than `max_in_flight` calls are at the inner backend. Otherwise it waits, and leaves with
whatever else has come meanwhile: merged into one call of many rows. No timer: at low load nothing is delayed, at high
load the batches grow by themselves. When the queue is full, a call is refused at once.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from time import perf_counter

from services.serving.backend import Backend, Call, Outcome
from services.wire.errors import BackendBadReply, BadInput, Overloaded, ServeError
from services.wire.tensors import row_offsets
from services.wire.types import Answer, Request, Tensor


@dataclass(frozen=True, slots=True)
class MergeLimits:
    """Bounds of one path.

    max_in_flight: calls at the inner backend at once. max_queue: calls waiting for that. max_rows, max_bytes: of one
    merged call; max_rows 1 merges nothing. (Large tensors cost copies and gain nothing by merging.)
    """

    max_in_flight: int = 2
    max_queue: int = 1024
    max_rows: int = 256
    max_bytes: int = 64 * 2**10


class Merge:
    """Bounds and merges the calls of one path; its members must be row-independent if max_rows is above 1."""

    def __init__(self, inner: Backend, limits: MergeLimits) -> None:
        self._inner = inner
        self._limits = limits
        self._in_flight = 0
        # An ordered set: a call that ends while it waits leaves at once, from wherever it stands.
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._gain = Gain()

    @property
    def in_flight(self) -> int:
        """Give the number of calls at the inner backend, a merged one counted once."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Give the number of calls that wait."""
        return len(self._waiting)

    def submit(self, call: Call) -> None:
        """Send the call, or let it wait, or refuse it."""
        if self._in_flight < self._limits.max_in_flight and not self._waiting:
            self._send((call,))
        elif len(self._waiting) < self._limits.max_queue:
            self._waiting[call] = None
            call.then(partial(self._left, call))
        else:
            call.end(Overloaded(f"{self._in_flight} requests in flight and {len(self._waiting)} waiting on this path"))

    def ready(self) -> bool:
        """Say whether the inner backend is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the inner backend."""
        await self._inner.close()

    def _left(self, call: Call, _: Outcome) -> None:
        self._waiting.pop(call, None)

    def _send(self, members: Sequence[Call]) -> None:
        self._in_flight += 1
        merged = members[0] if len(members) == 1 else _merged(members)
        began = perf_counter()
        merged.then(partial(self._returned, merged, members, began))
        self._inner.submit(merged)

    def _returned(self, merged: Call, members: Sequence[Call], began: float, outcome: Outcome) -> None:
        self._in_flight -= 1
        if len(members) > 1:
            self._give_out(members, outcome)
        if not isinstance(outcome, ServeError):
            self._gain.saw(merged.rows, perf_counter() - began, merged=len(members) > 1)
        while self._waiting and self._in_flight < self._limits.max_in_flight:
            self._send(self._next())

    def _next(self) -> Sequence[Call]:
        """Take the oldest waiting call, and those behind it that can leave with it."""
        first, _none = self._waiting.popitem(last=False)
        if self._limits.max_rows == 1 or not self._waiting or not self._gain.pays():
            return (first,)
        key, rows, size = _key(first.request), first.rows, _size(first.request)
        members = [first]
        for call in self._waiting:
            rows += call.rows
            size += _size(call.request)
            if rows > self._limits.max_rows or size > self._limits.max_bytes:
                break
            if _key(call.request) != key:
                break  # it leaves first the next time; looking past it would let others overtake
            members.append(call)
        for call in members[1:]:
            del self._waiting[call]
        return members

    def _give_out(self, members: Sequence[Call], outcome: Outcome) -> None:
        if isinstance(outcome, Answer):
            for member, answer in zip(members, _slices(members, outcome), strict=True):
                member.end(answer)
        elif isinstance(outcome, BadInput):
            # Somebody's content is at fault: find out whose by halves, and let the others have their answers.
            half = len(members) // 2
            for part in (members[:half], members[half:]):
                alive = [member for member in part if member.outcome is None]
                if alive:
                    self._send(alive)
        else:
            for member in members:
                member.end(outcome)


class Gain:
    """Whether merging pays: cost per row of merged calls against that of calls that left alone, both smoothed."""

    # A merged call has to bring a row for less than this part of what a lone one costs.
    WORTH = 0.95
    WEIGHT = 0.05
    # Of the calls that could have been merged while merging does not pay, every so many are, to see whether it does now.
    TRY_EVERY = 50

    def __init__(self) -> None:
        self._alone_s = 0.0
        self._merged_s = 0.0
        self._refused = 0

    def saw(self, rows: int, seconds: float, *, merged: bool) -> None:
        """Take note of a call that was answered."""
        cost_s = seconds / rows
        if merged:
            self._merged_s += (cost_s - self._merged_s) * (self.WEIGHT if self._merged_s else 1)
        else:
            self._alone_s += (cost_s - self._alone_s) * (self.WEIGHT if self._alone_s else 1)

    def pays(self) -> bool:
        """Say whether the next call should be merged."""
        if not self._alone_s or not self._merged_s or self._merged_s < self._alone_s * self.WORTH:
            return True
        self._refused += 1
        return self._refused % self.TRY_EVERY == 0


def _key(request: Request) -> tuple[object, ...]:
    """Give what must be equal for two requests to be merged."""
    tensors = tuple((tensor.name, tensor.dtype, tensor.shape[1:]) for tensor in request.inputs)
    return (request.model, request.version, request.outputs, tensors)


def _size(request: Request) -> int:
    return sum(len(tensor.data) for tensor in request.inputs)


def _merged(members: Sequence[Call]) -> Call:
    """Give one call of all members' rows; it may last as long as the most patient of them."""
    first = members[0].request
    rows = sum(member.rows for member in members)
    inputs = tuple(
        Tensor(
            tensor.name,
            tensor.dtype,
            (rows, *tensor.shape[1:]),
            b"".join([member.request.inputs[position].data for member in members]),
        )
        for position, tensor in enumerate(first.inputs)
    )
    merged = Call(Request(first.model, first.version, inputs, first.outputs), max(m.deadline for m in members))
    merged.rows = rows
    alive = len(members)

    def one_left(_: Outcome) -> None:
        nonlocal alive
        alive -= 1
        if not alive:
            merged.cancel()

    for member in members:
        member.then(one_left)
    return merged


def _slices(members: Sequence[Call], answer: Answer) -> Iterable[Answer | BackendBadReply]:
    """Give each member its rows of every output."""
    starts = list(accumulate((member.rows for member in members), initial=0))
    offsets = [row_offsets(output) for output in answer.outputs]
    for number, member in enumerate(members):
        begin, end = starts[number], starts[number + 1]
        outputs = tuple(
            Tensor(output.name, output.dtype, (member.rows, *output.shape[1:]), output.data[cut[begin] : cut[end]])
            for output, cut in zip(answer.outputs, offsets, strict=True)
        )
        yield Answer(outputs, answer.served)
