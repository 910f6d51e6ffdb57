"""A unary call at a server: a message that comes in, then a call to answer."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from grpc import StatusCode

from servepath.http2.early import after_end
from servepath.http2.frames import MESSAGE_HEAD, MESSAGE_HEAD_BYTES
from servepath.http2.grpc_server import GrpcServerConnection, Limits
from servepath.http2.request_headers import RequestHeaders
from servepath.protocols.errors import Internal, ServeError

log = logging.getLogger(__name__)
# What a piece of a message takes beside its content.
PIECE_BYTES = 48
NOT_ONE_MESSAGE = "the call is not one complete message"


class Taker(Protocol):
    """Who takes whole calls, and says how much of unfinished messages may be held."""

    @property
    def limits(self) -> Limits:
        """Return what is accepted."""

    def arrived(self, call: "UnaryCall") -> None:
        """Accept a call whose message is complete."""

    def withdraw(self, call: "UnaryCall") -> None:
        """Drop a call that has not been dispatched."""

    def hold(self, size: int) -> bool:
        """Count bytes of messages that are not whole yet, or no longer; say whether there is room for them."""


class UnaryCall:
    """One call: a stream until its message is whole, then what a data plane calls a raw call."""

    __slots__ = (
        "_connection",
        "_content",
        "_declared",
        "_headers",
        "_number",
        "_on_cancel",
        "_parts",
        "_size",
        "_taker",
        "deadline",
        "ended",
        "method",
        "payload",
    )

    def __init__(self, taker: Taker, connection: GrpcServerConnection, number: int, headers: RequestHeaders) -> None:
        self.method = headers.path
        self.payload = b""
        self.deadline = taker.limits.deadline(headers.remaining_s)
        self._taker = taker
        self._connection = connection
        self._number = number
        self._headers = headers
        self._on_cancel: Callable[[], None] | None = None
        self.ended = False
        # Of a message that comes in several pieces: what has come, its bytes, what they take here, and the bytes that
        # its head declares.
        self._parts: list[bytes] = []
        self._content = 0
        self._size = 0
        self._declared = -1

    # As a raw call.

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return the caller's metadata; of a repeated key the last value."""
        return self._headers.texts

    def reply(self, payload: bytes) -> None:
        """Answer the call."""
        self._connection.reply(self._number, payload)

    def fail(self, error: ServeError) -> None:
        """End the call with an error."""
        try:
            self._connection.fail(self._number, error)
        except Exception:  # escaping, it would leave the caller waiting until its deadline
            log.exception("an error could not be sent")
            self._connection.end(self._number, StatusCode.INTERNAL, Internal().text)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` if the caller goes away."""
        self._on_cancel = callback

    # As a stream.

    def take(self, payload: bytes, *, ended: bool) -> None:
        """Accept a piece of the message. Raises ProtocolError after its end."""
        if self.ended:
            raise after_end()
        self.ended = ended
        if ended and not self._parts and len(payload) > MESSAGE_HEAD_BYTES:
            # Nearly every message comes in one piece: the short way to what follows.
            compressed, size = MESSAGE_HEAD.unpack_from(payload)
            if not compressed and size == len(payload) - MESSAGE_HEAD_BYTES <= self._taker.limits.max_message_bytes:
                self.payload = payload[MESSAGE_HEAD_BYTES:]
                self._taker.arrived(self)
                return
        if not payload and not ended:
            return
        self._parts.append(payload)
        self._content += len(payload)
        if not ended:
            size = len(payload) + PIECE_BYTES
            self._size += size
            if not self._taker.hold(size):
                self._refuse(
                    StatusCode.RESOURCE_EXHAUSTED, "too many large messages are being received; try again later"
                )
                return
        if self._declared < 0 and not self._read_head(ended=ended):
            return
        if self._content > MESSAGE_HEAD_BYTES + self._declared:
            self._refuse(StatusCode.INTERNAL, NOT_ONE_MESSAGE)
        elif ended:
            self._finish()

    def cancelled(self) -> None:
        """Drop the call, or report its end."""
        self._release()
        if self._on_cancel is not None:
            self._on_cancel()
        else:
            self._taker.withdraw(self)

    def overdue(self, now: float) -> bool:
        """Return whether its deadline has passed while its message was still coming."""
        return not self.ended and self.deadline < now

    def _read_head(self, *, ended: bool) -> bool:
        """Read the message's head once there is one; say whether to go on."""
        start = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if len(start) < MESSAGE_HEAD_BYTES:
            if ended:
                self._refuse(StatusCode.INTERNAL, "the call ended without a message")
            return False
        compressed, self._declared = MESSAGE_HEAD.unpack_from(start)
        self._parts = [start[MESSAGE_HEAD_BYTES:]]
        limit = self._taker.limits.max_message_bytes
        if self._declared > limit:
            text = f"SERVER: Received message larger than max ({self._declared} vs. {limit})"
            self._refuse(StatusCode.RESOURCE_EXHAUSTED, text)
        elif compressed:
            self._refuse(StatusCode.INTERNAL, "a compressed message without grpc-encoding")
        else:
            return True
        return False

    def _finish(self) -> None:
        parts = self._parts
        self.payload = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        if self._size:
            self._release()
        if len(self.payload) == self._declared:
            self._taker.arrived(self)
        else:
            self._refuse(StatusCode.INTERNAL, NOT_ONE_MESSAGE)

    def _refuse(self, code: StatusCode, text: str) -> None:
        self._release()
        self._connection.end(self._number, code, text)

    def _release(self) -> None:
        if self._size:
            self._taker.hold(-self._size)
            self._size = 0
