"""An event loop on a thread of its own, so that plain tests can call an asyncio server as its clients do."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from time import monotonic, sleep
from typing import Any, TypeVar

from tests.limits import LONG_S

T = TypeVar("T")
TIMEOUT_S = LONG_S


class LoopThread:
    """A running loop; `run` waits for a coroutine, `start` does not."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.start(coroutine).result(TIMEOUT_S)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds. Raises AssertionError naming what did not happen."""
    end = monotonic() + TIMEOUT_S
    while not condition():
        assert monotonic() < end, f"never happened: {what}"
        sleep(0.005)
