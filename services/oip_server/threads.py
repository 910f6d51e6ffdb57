"""The backend that computes: an Engine, on the event loop while its runs are short, otherwise on a few threads.

The hop to a thread and back costs a tiny model more than its computation: 26 us against 8 us inline for one row of a
Linear(2, 1), measured without a network on a 2-core machine. A large model would hold up every RPC, health included.
Which one it is, is measured, and measured again with every run.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

from servepath.protocols.errors import DeadlineStage, Internal, ServeError
from servepath.protocols.types import Answer, Provenance, Tensor
from services.dataplane.backend import Call, Outcome
from services.dataplane.engine import Engine

log = logging.getLogger(__name__)
# What the loop may be held up by one run: as long as some ten requests take it anyway.
INLINE_S = 200e-6
RECENT = 8
Outputs = tuple[Tensor, ...]


class EngineThreads:
    """Runs calls inline or on `threads` threads; a call reaches the engine only when there is room and it lives."""

    def __init__(self, engine: Engine, served: Provenance, outputs: tuple[str, ...], threads: int) -> None:
        """`served`: who answers. `outputs`: the names that a call gets that asks for none."""
        self._engine = engine
        self._served = served
        self._outputs = outputs
        self._threads = threads
        self._inline_policy = InlinePolicy()
        self._busy = 0
        # Filled only while threads still compute for calls that have ended: the limit before us counts those as gone.
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=served.model)

    def submit(self, call: Call) -> None:
        """Compute now, or as soon as a thread is free."""
        if self._inline_policy.inline(call.rows):
            self._compute(call)
        elif self._busy < self._threads:
            self._start(call)
        else:
            self._waiting[call] = None
            call.add_done_callback(lambda _: self._waiting.pop(call, None))

    def ready(self) -> bool:
        """Return True: the engine has answered before this backend was built."""
        return True

    async def close(self) -> None:
        """Stop the threads; one that still computes ends after that."""
        self._executor.shutdown(wait=False)

    def _run(self, call: Call) -> Outputs:
        return self._engine.run(call.request.inputs, call.request.outputs or self._outputs)

    def _timed(self, call: Call) -> tuple[Outputs, float]:
        """Return the outputs and the seconds that they took."""
        began = perf_counter()
        outputs = self._run(call)
        return outputs, perf_counter() - began

    def _compute(self, call: Call) -> None:
        call.stage = DeadlineStage.IN_BACKEND
        began = perf_counter()
        try:
            outputs = self._run(call)
        except Exception as error:  # noqa: BLE001 - as a thread's future would keep it
            self._inline_policy.saw_inline(call.rows, perf_counter() - began)
            call.end(self._failed(error))
        else:
            self._inline_policy.saw_inline(call.rows, perf_counter() - began)
            call.end(Answer(outputs, self._served))

    def _start(self, call: Call) -> None:
        self._busy += 1
        call.stage = DeadlineStage.IN_BACKEND
        loop = asyncio.get_running_loop()
        running = self._executor.submit(self._timed, call)
        running.add_done_callback(lambda done: loop.call_soon_threadsafe(self._done, call, done))

    def _done(self, call: Call, done: Future[tuple[Outputs, float]]) -> None:
        self._busy -= 1
        error = done.exception()
        if error is None:
            outputs, seconds = done.result()
            self._inline_policy.saw_on_thread(call.rows, seconds)
            call.end(Answer(outputs, self._served))
        else:
            call.end(self._failed(error))
        while self._waiting and self._busy < self._threads:
            waiting, _none = self._waiting.popitem(last=False)
            self._start(waiting)

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, ServeError):
            return error
        log.error("the engine failed on a call to %s", self._served.model, exc_info=error)
        return Internal()


class InlinePolicy:
    """Whether a run is short enough to be waited for on the event loop: what the last RECENT runs say."""

    def __init__(self) -> None:
        self._inline = False
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._run_s = 0.0
        self._rows = 0

    def inline(self, rows: int) -> bool:
        """Return whether to run `rows` rows inline; more rows than seen may take proportionally longer."""
        return self._inline and self._run_s * max(1.0, rows / self._rows) < INLINE_S

    def saw_on_thread(self, rows: int, seconds: float) -> None:
        """Record a run on a thread. The shortest counts: threads may wait for the interpreter lock."""
        self._recent.append((seconds, rows))
        if not self._inline and len(self._recent) == RECENT:
            self._run_s, self._rows = min(self._recent)
            if self._run_s < INLINE_S:
                self._turn(inline=True)

    def saw_inline(self, rows: int, seconds: float) -> None:
        """Record an inline run. All count, smoothed: the loop waited for each."""
        self._run_s += (seconds - self._run_s) / RECENT
        self._rows = max(1, round(self._rows + (rows - self._rows) / RECENT))
        if self._run_s >= INLINE_S:
            self._turn(inline=False)

    def _turn(self, *, inline: bool) -> None:
        self._inline = inline
        self._recent.clear()
