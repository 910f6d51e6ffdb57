"""The policy that a share of a model's calls is repeated on another path, and the answers are compared.

A call is repeated when its reply has left, so that nobody waits for it, and only while no live call waits: repeated
ones are dropped first. Their answers are compared and go nowhere (ADR 34).
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Protocol

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
from services.dataplane.deadlines import Deadlines
from services.gateway.golden import MAX_ELEMENTS, compared
from services.gateway.tolerances import between
from services.gateway.verdicts import Verdicts

log = logging.getLogger(__name__)
# What a repeated call has, even if its caller's had less left: its server may be the slower one.
MIN_DEADLINE_S = 1.0
# Elements of an answer that are compared on the event loop: 0.1 ms (x86_64, 2026-11-29; see golden.MAX_ELEMENTS).
SMALL = 2**8


class Queue(Protocol):
    """Where a path's calls wait, such as a Batcher."""

    @property
    def queued(self) -> int:
        """Return the number of calls that wait."""


@dataclass(frozen=True, slots=True)
class ComparedPath:
    """What the shadow has to know of one path of its model."""

    spec: Spec
    queue: Queue


class Repeater:
    """Repeats a model's answered calls on the shadow's path, and compares."""

    def __init__(
        self, target: Backend, paths: Mapping[str, ComparedPath], verdicts: Verdicts, max_deadline_s: float
    ) -> None:
        """`target`: the chain of the shadow's path. `paths`: stack -> path, of all that the model is on.

        max_deadline_s: the most that a repeated call gets.
        """
        self._target = target
        self._shadow = verdicts.shadow
        self._name = verdicts.name
        self._queues = {stack: path.queue for stack, path in paths.items()}
        own = paths[self._shadow.stack].spec
        self._specs = {stack: between(own, path.spec) for stack, path in paths.items()}
        self._verdicts = verdicts
        self._max_deadline_s = max_deadline_s
        self._deadlines = Deadlines()
        self._in_flight = 0
        # One comparison at a time is off the event loop: they are Python, and take the interpreter from it.
        self._comparing = asyncio.Lock()
        self._comparisons: set[asyncio.Task[None]] = set()

    @property
    def share(self) -> float:
        """Return which part of the calls is repeated."""
        return self._shadow.percent / ALL

    def answered(self, request: Request, call: Call, outcome: Outcome) -> None:
        """Repeat a call that was answered by another path, in the turn of the event loop after the reply's."""
        if isinstance(outcome, Answer) and outcome.served.stack != self._shadow.stack:
            loop = asyncio.get_running_loop()
            # Not in the next turn: that is when grpcio's front sends the reply.
            trace = call.trace.repeated() if call.trace else None
            loop.call_soon(loop.call_soon, self._repeat, request, call.deadline, trace, outcome)

    def _repeat(self, request: Request, deadline: float, trace: Trace | None, primary: Answer) -> None:
        queues = (self._queues[primary.served.stack], self._queues[self._shadow.stack])
        if self._in_flight >= self._shadow.max_in_flight or any(queue.queued for queue in queues):
            self._verdicts.record(DROPPED)
            return
        now = monotonic()
        left_s = min(max(deadline - now, MIN_DEADLINE_S), self._max_deadline_s)
        call = Call(request._replace(model=self._name), now + left_s)
        call.trace = trace
        self._in_flight += 1
        self._deadlines.watch(call)
        call.add_done_callback(partial(self._ended, call, primary))
        try:
            self._target.submit(call)
        except Exception:
            log.exception("the path of a shadow raised instead of ending the call")
            call.end(Internal())

    def _ended(self, call: Call, primary: Answer, outcome: Outcome) -> None:
        self._deadlines.forget(call)
        self._in_flight -= 1
        unloaded = isinstance(outcome, ModelLoading) and call.request.version
        elements = sum(math.prod(tensor.shape) for tensor in primary.outputs)
        if isinstance(outcome, DeadlineExceeded):
            self._verdicts.record(LATE)
        elif isinstance(outcome, Cancelled | Draining):
            pass  # this gateway is closing its connections
        elif unloaded or isinstance(outcome, BadInput | ModelNotFound | TooLarge):
            self._verdicts.record(SKIPPED)  # a version, or a size, that this path alone does not take
        elif isinstance(outcome, Overloaded):
            self._verdicts.record(DROPPED)
        elif isinstance(outcome, ServeError):
            self._verdicts.record(FAILED, said=outcome.text)
        elif not 0 < elements <= MAX_ELEMENTS:
            self._verdicts.record(SKIPPED)
        elif elements <= SMALL:
            self._record(*self._compared(primary, outcome))
        else:
            self._in_flight += 1
            comparison = asyncio.create_task(self._compare_aside(primary, outcome))
            self._comparisons.add(comparison)
            comparison.add_done_callback(self._compared_aside)

    async def _compare_aside(self, primary: Answer, answer: Answer) -> None:
        async with self._comparing:
            found = await asyncio.to_thread(self._compared, primary, answer)
        self._record(*found)

    def _compared_aside(self, comparison: asyncio.Task[None]) -> None:
        self._comparisons.discard(comparison)
        self._in_flight -= 1

    def _record(self, difference: float, said: str) -> None:
        self._verdicts.record(DIFFERENT if said else EQUAL, difference, said)

    def _compared(self, primary: Answer, answer: Answer) -> tuple[float, str]:
        served, wanted = primary.served, {tensor.name: tensor for tensor in primary.outputs}
        spec = self._specs[served.stack]
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
