"""What says that more calls are at hand: policies that merge wait for the end of a list instead of for a timer."""

from collections.abc import Callable
from types import TracebackType


class Burst:
    """Open while a list of calls is handed over; used as a context manager by whoever hands it over."""

    def __init__(self) -> None:
        self.open = False
        self._at_end: list[Callable[[], None]] = []

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the list that is being handed over ends. It must not raise."""
        self._at_end.append(callback)

    def __enter__(self) -> None:
        self.open = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        callbacks, self._at_end = self._at_end, []
        for callback in callbacks:
            callback()
