"""The policy that a share of a model's calls is repeated on another path, and the answers are compared.

A call is repeated when its reply has left, so that nobody waits for it, and only while no live call waits. Where the
shadow's path merges, what comes within TOGETHER_S is repeated together, merged as far as the path allows; beyond a
bound, calls are dropped. Their answers are compared and go nowhere (ADR 34).
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import NamedTuple, Protocol

from servepath.artifacts.spec import Spec
from servepath.protocols.deployments import ALL
from servepath.protocols.errors import (
    BadInput,
    Cancelled,
    DeadlineExceeded,
    Draining,
    Internal,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    ServeError,
    TooLarge,
)
from servepath.protocols.paths import DIFFERENT, DROPPED, EQUAL, FAILED, LATE, SKIPPED
from servepath.protocols.types import Answer, Request
from services.dataplane.backend import Backend, Call, Outcome, Trace
from services.dataplane.batch_scope import BatchScope
from services.dataplane.deadlines import Deadlines
from services.dataplane.rows import size_of
from services.gateway.answers import MAX_ELEMENTS, compared
from services.gateway.tolerances import between
from services.gateway.verdicts import Verdicts

log = logging.getLogger(__name__)
# What a repeated call has, even if its caller's had less left: its server may be the slower one.
MIN_DEADLINE_S = 1.0
# Calls wait so long for others: nobody waits for them, and a merged call costs both servers a fraction of its parts.
TOGETHER_S = 20e-3
# How often calls are held for so long while live ones wait: they are dropped after a second.
MAX_LOOKS = 50
# Of the inputs and callers' answers of all repeated calls at once; one call may have more.
MAX_BYTES = 8 * 2**20
# Elements of an answer that are compared on the event loop: 0.1 ms (x86_64, 2026-11-29; see answers.MAX_ELEMENTS).
SMALL = 2**8


class Queue(Protocol):
    """Where a path's calls wait, such as a Batcher."""

    @property
    def queued(self) -> int:
        """Return the number of calls that wait."""

    @property
    def merges(self) -> bool:
        """Return whether calls that wait now would leave as one."""


@dataclass(frozen=True, slots=True)
class ComparedPath:
    """What the shadow has to know of one path of its model."""

    spec: Spec
    queue: Queue


class Answered(NamedTuple):
    """A call that is to be repeated: what its caller sent, had left and got, where its spans belong, and its bytes."""

    request: Request
    deadline: float
    trace: Trace | None
    answer: Answer
    size: int


class Together:
    """Calls that are repeated together. bad: whether one failed or was late, as all do when their one call does."""

    bad = False


class Repeater:
    """Repeats a model's answered calls on the shadow's path, and compares."""

    def __init__(
        self,
        target: Backend,
        paths: Mapping[str, ComparedPath],
        verdicts: Verdicts,
        max_deadline_s: float,
        *,
        batch_scope: BatchScope,
        together_s: float = TOGETHER_S,
    ) -> None:
        """`target`: the chain of the shadow's path. `paths`: stack -> path, of all that the model is on.

        max_deadline_s: the most that a repeated call gets. batch_scope: open while calls are handed over together.
        """
        self._target = target
        self._shadow = verdicts.shadow
        self._name = verdicts.name
        self._queues = {stack: path.queue for stack, path in paths.items()}
        own = paths[self._shadow.stack].spec
        self._specs = {stack: between(own, path.spec) for stack, path in paths.items()}
        self._verdicts = verdicts
        self._max_deadline_s = max_deadline_s
        self._batch_scope = batch_scope
        self._together_s = together_s
        self._deadlines = Deadlines()
        # Held ones are in flight, too.
        self._in_flight = 0
        self._bytes = 0
        self._held: list[Answered] = []
        self._looks = 0
        # One comparison at a time is off the event loop: they are Python, and take the interpreter from it.
        self._comparing = asyncio.Lock()
        self._comparisons: set[asyncio.Task[None]] = set()

    @property
    def share(self) -> float:
        """Return which part of the calls is repeated."""
        return self._shadow.percent / ALL

    def answered(self, request: Request, call: Call, outcome: Outcome) -> None:
        """Repeat a call that was answered by another path, soon after its reply has left."""
        if not isinstance(outcome, Answer) or outcome.served.stack == self._shadow.stack:
            return
        size = size_of(request) + sum(len(tensor.data) for tensor in outcome.outputs)
        if self._in_flight >= self._shadow.max_in_flight or (self._in_flight and self._bytes + size > MAX_BYTES):
            self._verdicts.record(DROPPED)
            return
        trace = call.trace.repeated() if call.trace else None
        self._held.append(Answered(request, call.deadline, trace, outcome, size))
        self._count(self._held[-1])
        if len(self._held) == 1:
            self._look_later(self._together_s if self._queues[self._shadow.stack].merges else 0)

    def _look_later(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        stacks = {answered.answer.served.stack for answered in self._held} | {self._shadow.stack}
        waiting = any(self._queues[stack].queued for stack in stacks)
        self._looks += 1
        if waiting and self._looks < MAX_LOOKS:
            self._look_later(self._together_s)
            return
        held, self._held, self._looks = self._held, [], 0
        loop = asyncio.get_running_loop()
        # The last may have been answered just now, and grpcio's listener sends the reply in the next turn.
        loop.call_soon(loop.call_soon, self._drop if waiting else self._repeat_all, held)

    def _drop(self, held: Sequence[Answered]) -> None:
        for answered in held:
            self._over(answered)
            self._verdicts.record(DROPPED)

    def _repeat_all(self, held: Sequence[Answered]) -> None:
        queue, together = self._queues[self._shadow.stack], Together()
        if queue.merges:
            with self._batch_scope:
                for answered in held:
                    self._repeat(answered, together)
            return
        for place, answered in enumerate(held):
            if queue.queued:  # the others would stand before live calls, one by one
                self._drop(held[place:])
                return
            self._repeat(answered, Together())

    def _repeat(self, answered: Answered, together: Together) -> None:
        now = monotonic()
        left_s = min(max(answered.deadline - now, MIN_DEADLINE_S), self._max_deadline_s)
        call = Call(answered.request._replace(model=self._name), now + left_s)
        call.trace = answered.trace
        self._deadlines.watch(call)
        call.add_done_callback(partial(self._ended, call, answered, together))
        try:
            self._target.submit(call)
        except Exception:
            log.exception("the path of a shadow raised instead of ending the call")
            call.end(Internal())

    def _count(self, answered: Answered) -> None:
        self._in_flight += 1
        self._bytes += answered.size

    def _over(self, answered: Answered) -> None:
        self._in_flight -= 1
        self._bytes -= answered.size

    def _ended(self, call: Call, answered: Answered, together: Together, outcome: Outcome) -> None:
        self._deadlines.forget(call)
        self._over(answered)
        primary = answered.answer
        unloaded = isinstance(outcome, ModelLoading) and call.request.version
        elements = sum(math.prod(tensor.shape) for tensor in primary.outputs)
        if isinstance(outcome, DeadlineExceeded):
            self._record_bad(together, LATE)
        elif isinstance(outcome, Cancelled | Draining):
            pass  # this gateway is closing its connections
        elif unloaded or isinstance(outcome, BadInput | ModelNotFound | TooLarge):
            self._verdicts.record(SKIPPED)  # a version, or a size, that this path alone does not take
        elif isinstance(outcome, Overloaded):
            self._verdicts.record(DROPPED)
        elif isinstance(outcome, ServeError):
            self._record_bad(together, FAILED, outcome.text)
        elif not 0 < elements <= MAX_ELEMENTS:
            self._verdicts.record(SKIPPED)
        elif elements <= SMALL:
            self._record(*self._compared(primary, outcome))
        else:
            self._count(answered)  # until it is compared
            comparison = asyncio.create_task(self._compare_aside(primary, outcome))
            self._comparisons.add(comparison)
            comparison.add_done_callback(partial(self._compared_aside, answered))

    async def _compare_aside(self, primary: Answer, answer: Answer) -> None:
        async with self._comparing:
            found = await asyncio.to_thread(self._compared, primary, answer)
        self._record(*found)

    def _compared_aside(self, answered: Answered, comparison: asyncio.Task[None]) -> None:
        self._comparisons.discard(comparison)
        self._over(answered)

    def _record_bad(self, together: Together, verdict: str, said: str = "") -> None:
        self._verdicts.record(verdict, said=said, shared=together.bad)
        together.bad = True

    def _record(self, difference: float, said: str) -> None:
        self._verdicts.record(DIFFERENT if said else EQUAL, difference, said)

    def _compared(self, primary: Answer, answer: Answer) -> tuple[float, str]:
        if answer.outputs == primary.outputs:  # the same bytes; a twentieth of the time
            return 0.0, ""
        served, wanted = primary.served, {tensor.name: tensor for tensor in primary.outputs}
        spec = self._specs[served.stack]
        if len(wanted) < len(spec.outputs):
            spec = replace(spec, outputs=tuple(output for output in spec.outputs if output.name in wanted))
        return compared(spec, answer.outputs, wanted, f"{served.model}@{served.stack}", values_shown=False)


class ShadowPolicy:
    """Passes every call on as it is, and has a share of those that are answered repeated.

    draw: a number from 0 to below 1 for each call.
    """

    def __init__(self, inner: Backend, repeater: Repeater, draw: Callable[[], float] = random.random) -> None:
        self._inner = inner
        self._repeater = repeater
        self._share = repeater.share
        self._draw = draw

    def submit(self, call: Call) -> None:
        """Pass the call on."""
        if self._draw() < self._share:
            # The request as the caller sent it: policies put others in its place.
            call.add_done_callback(partial(self._repeater.answered, call.request, call))
        self._inner.submit(call)

    def ready(self) -> bool:
        """Return whether the inner backend is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the inner backend."""
        await self._inner.close()
