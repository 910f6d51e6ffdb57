"""The backend that computes: an Engine behind a few threads, so that no RPC waits behind a large model.

The hop to a thread and back costs a tiny model more than its computation: 26 us against 8 us inline for one row of a
Linear(2, 1), measured without a network on a 2-core machine. A large model costs the event loop nothing instead.
"""

import asyncio
import logging
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from services.serving.backend import Call, Outcome
from services.serving.engine import Engine
from services.wire.errors import Internal, ServeError, Where
from services.wire.types import Answer, Served, Tensor

log = logging.getLogger(__name__)


class EngineThreads:
    """Runs calls on `threads` threads; a call reaches the engine only when one is free and the call has not ended."""

    def __init__(self, engine: Engine, served: Served, outputs: tuple[str, ...], threads: int) -> None:
        """`served`: who answers. `outputs`: the names that a call gets that asks for none."""
        self._engine = engine
        self._served = served
        self._outputs = outputs
        self._threads = threads
        self._busy = 0
        # Filled only while threads still compute for calls that have ended: the limit before us counts those as gone.
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=served.model)

    def submit(self, call: Call) -> None:
        """Compute now, or as soon as a thread is free."""
        if self._busy < self._threads:
            self._start(call)
        else:
            self._waiting[call] = None
            call.then(lambda _: self._waiting.pop(call, None))

    def ready(self) -> bool:
        """Say yes: the engine has answered before this backend was built."""
        return True

    async def close(self) -> None:
        """Let the threads end; one that still computes ends after that."""
        self._executor.shutdown(wait=False)

    def _start(self, call: Call) -> None:
        self._busy += 1
        call.where = Where.IN_BACKEND
        loop = asyncio.get_running_loop()
        running = self._executor.submit(self._engine.run, call.request.inputs, call.request.outputs or self._outputs)
        running.add_done_callback(lambda done: loop.call_soon_threadsafe(self._done, call, done))

    def _done(self, call: Call, done: Future[tuple[Tensor, ...]]) -> None:
        self._busy -= 1
        call.end(self._outcome(done))
        while self._waiting and self._busy < self._threads:
            waiting, _none = self._waiting.popitem(last=False)
            self._start(waiting)

    def _outcome(self, done: Future[tuple[Tensor, ...]]) -> Outcome:
        error = done.exception()
        if error is None:
            return Answer(done.result(), self._served)
        if isinstance(error, ServeError):
            return error
        log.error("the engine failed on a call to %s", self._served.model, exc_info=error)
        return Internal()
