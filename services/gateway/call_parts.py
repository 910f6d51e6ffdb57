"""The parts that have a second form for traced calls: chosen once, so that untraced ones pay nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.dataplane.batcher import Batcher
from services.dataplane.data_plane import DataPlane
from services.gateway.replica import Replica


def _start_nothing() -> None:
    pass


async def _stop_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class CallParts:
    """Makers of the parts, the plain ones unless told otherwise. start, stop: begin and end what they report to."""

    data_plane: Callable[..., DataPlane] = DataPlane
    batcher: Callable[..., Batcher] = Batcher
    replica: Callable[..., Replica] = Replica
    start: Callable[[], None] = _start_nothing
    stop: Callable[[], Awaitable[None]] = _stop_nothing


PLAIN = CallParts()
