"""A server's side of gRPC: streams taken in as calls, replies and refusals written (gRPC over HTTP/2)."""

import math
from time import monotonic
from typing import Protocol

from grpc import StatusCode

from servepath.http2.frames import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    LONG,
    NO_ERROR,
    RST_STREAM,
    frame,
)
from servepath.http2.request_headers import RequestHeaders
from servepath.http2.response_headers import (
    ENCODINGS,
    OK,
    OK_FRAME,
    RESPONSE,
    RESPONSE_FRAME,
    Trailing,
    compression_text,
    end_of,
    head_of,
    http_end_of,
)
from servepath.http2.server import ServerConnection, ServerOutput, Stream
from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols.errors import Draining, ServeError
from servepath.protocols.status import code_of, details_of, text_of

ENDED = END_HEADERS | END_STREAM


class Limits(Protocol):
    """What a server accepts."""

    @property
    def max_message_bytes(self) -> int:
        """Return the size of the largest message."""

    @property
    def max_metadata_bytes(self) -> int:
        """Return the size of one call's largest metadata, counted as HTTP/2 counts header lists."""

    @property
    def max_streams(self) -> int:
        """Return how many calls a connection may have at once."""

    @property
    def max_deadline_s(self) -> float:
        """Return how long a call may take."""

    def deadline(self, remaining_s: float | None) -> float:
        """Return the time.monotonic() deadline of a call with `remaining_s` left, None where it brings none."""


class ConnectionListener(Protocol):
    """Who takes the calls in, and bounds what all connections hold."""

    stopping: bool

    @property
    def limits(self) -> Limits:
        """Return what is accepted."""

    def opened(self, connection: "GrpcServerConnection") -> None:
        """Note a new connection, or refuse it."""

    def closed(self, connection: "GrpcServerConnection") -> None:
        """Note a connection's end."""

    def begin(self, connection: "GrpcServerConnection", number: int, headers: RequestHeaders) -> Stream:
        """Return the stream of a call whose headers are in order."""

    def read(self) -> None:
        """Note that a connection's frames have been read."""

    def hold_frames(self, size: int) -> None:
        """Count bytes of frames that are not whole yet, or no longer; where they are too many, have one closed."""

    def idle(self) -> None:
        """Note that a connection has no stream any more."""


class GrpcServerConnection(ServerConnection):
    """One caller's connection."""

    def __init__(self, listener: ConnectionListener, coalescer: WriteCoalescer) -> None:
        super().__init__(listener.limits.max_streams, coalescer)
        self._listener = listener
        self.held = 0  # bytes of frames and header blocks that are not whole
        self._held_since = math.inf
        self._paused_since = math.inf

    def start(self, output: ServerOutput) -> None:
        """Send the greeting."""
        super().start(output)
        self._listener.opened(self)

    def pause(self) -> None:
        """Send no more messages: the caller does not keep up."""
        super().pause()
        self._paused_since = monotonic()

    def resume(self) -> None:
        """Resume sending."""
        self._paused_since = math.inf
        super().resume()
        self._listener.idle()

    def lost(self) -> None:
        """End every stream: there is no socket any more."""
        super().lost()
        self._out.clear()
        self._listener.closed(self)

    def _forget(self) -> None:
        super()._forget()
        self._listener.hold_frames(-self.held)
        self.held = 0
        self._held_since = math.inf

    def _read_frames(self, data: bytes) -> int:
        taken = super()._read_frames(data)
        self._listener.read()
        block = len(self._partial[2])
        held = len(self._buffer) + block
        # Even where it is as much as before: of a busy caller each read may end as far inside another frame.
        if not held:
            self._held_since = math.inf
        elif self._held_since == math.inf or (taken and not block):
            self._held_since = monotonic()
        if held != self.held:
            more, self.held = held - self.held, held
            self._listener.hold_frames(more)
        return taken

    def reply(self, number: int, message: bytes) -> None:
        """Answer a call that has not ended."""
        if self.streams.pop(number, None) is not None:
            self._out.send(
                number,
                RESPONSE_FRAME.pack(0, len(RESPONSE), HEADERS, END_HEADERS, number, RESPONSE),
                message,
                OK_FRAME.pack(0, len(OK), HEADERS, ENDED, number, OK),
            )
            if not self.streams:
                self._listener.idle()

    def begin_messages(self, number: int) -> None:
        """Start a reply of several messages."""
        self._out.open(number, head_of(number))

    def send_message(self, number: int, message: bytes) -> int:
        """Send one of several messages; return how many bytes the caller has not taken yet."""
        return self._out.more(number, message)

    def end(self, number: int, code: StatusCode, text: str, trailing: Trailing = (), *, begun: bool = False) -> None:
        """End an open call with a status; `begun` says that its reply was started."""
        if number in self.streams:
            tail = end_of(number, code, text, trailing, begun=begun)
            self._end(number)
            if begun:
                self._out.end(number, tail)
            else:
                self._out.drop(number)
                self._out.write_head(tail)
            if not self.streams:
                self._listener.idle()

    def fail(self, number: int, error: ServeError) -> None:
        """End an open call with an error."""
        self.end(number, code_of(error), text_of(error), details_of(error))

    def leave(self) -> None:
        """Announce that no further call will be processed."""
        self._out.write(self._goaway_frame(NO_ERROR))

    def close(self) -> None:
        """End what is still open, write what can be written, and close."""
        self._shut(NO_ERROR, "")

    def refuse(self) -> None:
        """Close a connection that holds too much, or for too long."""
        self._shut(ENHANCE_YOUR_CALM, "")
        self._forget()

    def stalled(self, now: float) -> bool:
        """Return whether a frame or header block has been incomplete for longer than any call may take.

        now: time.monotonic() seconds.
        """
        return now - self._held_since > self._listener.limits.max_deadline_s

    def unread(self, now: float) -> bool:
        """Return whether the caller has not kept up for longer than any call may take.

        now: time.monotonic() seconds.
        """
        return now - self._paused_since > self._listener.limits.max_deadline_s

    def expire(self, now: float) -> None:
        """Drop the replies that the caller has not taken for as long as any call may take, and reset their streams."""
        for number in self._out.untaken(now - self._listener.limits.max_deadline_s):
            self._out.drop(number)
            self._out.write(frame(RST_STREAM, 0, number, LONG.pack(CANCEL)))

    def must_be_settled(self) -> None:
        """Close a connection whose caller has not said that it speaks HTTP/2."""
        if not self.settled:
            self.abort()

    # What a server's side of a connection asks for.

    def _open(self, number: int, request: RequestHeaders) -> Stream | bytes:
        limit = self._listener.limits.max_metadata_bytes
        if request.http:
            return http_end_of(number, request.http)
        if self._listener.stopping:
            error = Draining()
            return end_of(number, code_of(error), text_of(error), details_of(error))
        if request.encoding:
            return end_of(number, StatusCode.UNIMPLEMENTED, compression_text(request.encoding), ENCODINGS)
        if request.size > limit:
            text = f"received metadata size exceeds limit ({request.size} vs. {limit})"
            return end_of(number, StatusCode.RESOURCE_EXHAUSTED, text)
        return self._listener.begin(self, number, request)

    def _emptied(self) -> None:
        self._listener.idle()
