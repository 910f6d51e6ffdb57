"""What is written while frames are being read leaves when they have been: in one go, and no turn of the loop later."""

from collections.abc import Callable
from types import TracebackType

Flush = Callable[[], None]


class WriteCoalescer:
    """Open while frames are read and what they bring is worked on; shared by the connections of a process.

    call_soon: calls back in the event loop's next turn.
    """

    def __init__(self, call_soon: Callable[[Flush], object]) -> None:
        self._call_soon = call_soon
        self._depth = 0
        self._flushes: list[Flush] = []

    def defer(self, flush: Flush) -> None:
        """Call `flush` at the end of the current read, or in the loop's next turn if nothing is being read."""
        if self._depth:
            self._flushes.append(flush)
        else:
            self._call_soon(flush)

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth and self._flushes:
            flushes, self._flushes = self._flushes, []
            for flush in flushes:
                flush()
