"""Read something again and again while something else runs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Sampler(Generic[T]):
    """Reads every `every_s` seconds in a thread within a `with` statement.

    samples: (nanoseconds since 1970, reading).
    """

    def __init__(self, read: Callable[[], T], every_s: float) -> None:
        self._read = read
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self.samples: list[tuple[int, T]] = []

    def __enter__(self) -> Self:
        self._sampling = self._thread.submit(self._sample)
        return self

    def __exit__(self, *_: object) -> None:
        """Take the last sample. Raises what a reading raised."""
        self._ended.set()
        self._thread.shutdown()
        self._sampling.result()

    def _sample(self) -> None:
        self._take()
        while not self._ended.wait(self._every_s):
            self._take()
        self._take()

    def _take(self) -> None:
        self.samples.append((time.time_ns(), self._read()))
