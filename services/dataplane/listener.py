"""The seam where hot RPCs come in: lists of raw calls, whatever server library took them off the wire."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from servepath.protocols.errors import ServeError


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What a listener accepts: one message's size, and the deadline of a call that brings none, or too long a one.

    max_metadata_bytes: of one call, counted as HTTP/2 counts header lists. max_streams: calls at once on a connection.
    max_connections: at once; fewer where the process may not open so many descriptors. grpcio takes any number.
    handshake_s: how long who connects may take to say that it speaks HTTP/2.
    share_port: let other processes that ask for it, too, listen on the same port; the kernel deals out connections.
    """

    max_message_bytes: int = 16 * 2**20
    default_deadline_s: float = 15.0
    max_deadline_s: float = 120.0
    max_metadata_bytes: int = 8 * 2**10
    max_streams: int = 1024
    max_connections: int = 10_000
    handshake_s: float = 10.0
    share_port: bool = False

    def deadline(self, remaining_s: float | None) -> float:
        """Return the time.monotonic() deadline of a call with `remaining_s` left (grpcio: huge for no deadline)."""
        if remaining_s is None or remaining_s > NO_DEADLINE_S:
            return monotonic() + self.default_deadline_s
        return monotonic() + min(remaining_s, self.max_deadline_s)


# grpcio reports 9.2e18 s where the client set no deadline; a client's own may be anything below.
NO_DEADLINE_S = 1e9


class RawCall(Protocol):
    """One call as it came: bytes in, and exactly one of `reply` or `fail`.

    method: full gRPC path. payload: the message, until it has been read. deadline: time.monotonic() seconds, already
    clamped. metadata: lower-case ASCII keys.
    """

    method: str
    payload: bytes
    deadline: float

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return the caller's metadata; of a repeated key the last value."""

    def reply(self, payload: bytes) -> None:
        """Answer the call."""

    def fail(self, error: ServeError) -> None:
        """End the call with the error's code, text and reason."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` if the caller goes away before it is answered."""


Dispatch = Callable[[list[RawCall]], None]


class Listener(Protocol):
    """A gRPC server that hands its hot RPCs to a `Dispatch`` and its control RPCs to ordinary servicers."""

    async def start(self) -> int:
        """Listen and return the port. Raises PortBusyError."""

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, then close."""


# Why a server cannot listen, and what to do.
IN_USE = "the port is in use, or the address is not this machine's; stop its holder, or give another --host or --port"


class PortBusyError(Exception):
    """The server cannot listen: mostly another process does on that port; the text says which and why."""
