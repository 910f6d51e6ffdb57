"""What says that more calls are at hand: policies that merge wait for the end of a list instead of for a timer."""

from collections.abc import Callable
from types import TracebackType


class BatchScope:
    """Open while a list of calls is handed over; used as a context manager by anyone who hands it over."""

    def __init__(self) -> None:
        self.open = False
        self._on_exit: list[Callable[[], None]] = []

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the scope ends. It must not raise."""
        self._on_exit.append(callback)

    def __enter__(self) -> None:
        self.open = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        callbacks, self._on_exit = self._on_exit, []
        for callback in callbacks:
            callback()
