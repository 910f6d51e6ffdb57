"""Read something again and again while something else runs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Sampler(Generic[T]):
    """Reads every `every_s` seconds in a thread within a `with` statement.

    samples: (nanoseconds since 1970, reading), by such a clock as the rows' (loadtest/calls.py): the wall clock once, a
    monotonic one from there. drift_us: by how much the wall clock left it.
    """

    def __init__(self, read: Callable[[], T], every_s: float, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._read = read
        self._every_s = every_s
        self._wall_ns = wall_ns
        self._offset_ns = wall_ns() - time.perf_counter_ns()
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self.samples: list[tuple[int, T]] = []
        self.drift_us = 0.0

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
        before_ns, wall_ns, now_ns = self._now_ns(), self._wall_ns(), self._now_ns()
        # Whatever keeps this thread waiting in between is no drift.
        self.drift_us = max(self.drift_us, (before_ns - wall_ns) / 1e3, (wall_ns - now_ns) / 1e3)
        self.samples.append((now_ns, self._read()))

    def _now_ns(self) -> int:
        return time.perf_counter_ns() + self._offset_ns
