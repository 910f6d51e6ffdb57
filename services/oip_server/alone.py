"""Whether a run is the only one of its model: then it may take all cores, otherwise one (ADR 29)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Alone:
    """Counts the runs of one model; for any threads."""

    def __init__(self) -> None:
        self._running = 0
        self._lock = threading.Lock()

    @contextmanager
    def run(self) -> Iterator[bool]:
        """Count a run while this is open; yield whether it is the only one as it begins."""
        with self._lock:
            alone = not self._running
            self._running += 1
        try:
            yield alone
        finally:
            with self._lock:
                self._running -= 1
