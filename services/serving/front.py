"""The seam where hot RPCs come in: lists of raw calls, whatever server library took them off the wire."""

from collections.abc import Callable, Mapping
from typing import Protocol

from services.wire.errors import ServeError


class RawCall(Protocol):
    """One call as it came: bytes in, and exactly one of `reply` or `fail`.

    method: full gRPC path. deadline: time.monotonic() seconds, already clamped. metadata: lower-case ASCII keys.
    """

    method: str
    payload: bytes
    deadline: float

    @property
    def metadata(self) -> Mapping[str, str]:
        """Give the caller's metadata; of a repeated key the last value."""

    def reply(self, payload: bytes) -> None:
        """Answer the call."""

    def fail(self, error: ServeError) -> None:
        """Refuse the call with the error's code, text and reason."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have `callback` called if the caller goes away before it is answered."""


Deliver = Callable[[list[RawCall]], None]


class Front(Protocol):
    """A gRPC server that hands its hot RPCs to a `Deliver` and its control RPCs to ordinary servicers."""

    async def start(self) -> int:
        """Listen and give the port. Raises PortBusyError."""

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give the ones in flight `grace_s` seconds, then close."""


class PortBusyError(Exception):
    """Another process listens on the port; the text names it."""
