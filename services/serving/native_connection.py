"""A caller's connection to the native front: streams taken in as calls, replies and refusals written."""

import asyncio
import math
import socket
import struct
from base64 import b64encode
from collections.abc import Sequence
from time import monotonic
from typing import Protocol, cast
from urllib.parse import quote

from grpc import StatusCode

from services.http2.blocks import MAX_HEADER_LIST, BlockReader
from services.http2.conversation import OUR_FRAME, OUR_WINDOW, Conversation, settings_of
from services.http2.frames import (
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_HEAD,
    GOAWAY,
    GOODBYE,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LONG,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    NO_ERROR,
    PREFACE,
    REFUSED_STREAM,
    RST_STREAM,
    ProtocolError,
    frame,
    literal,
)
from services.http2.turn import Turn
from services.serving.front import FrontLimits
from services.serving.request_headers import RequestHeaders, request_headers
from services.wire.errors import Draining, ServeError
from services.wire.status import code_of, details_of, text_of

# Entry 8 of HPACK's static table is ":status: 200".
RESPONSE = b"\x88" + literal("content-type", "application/grpc")
OK = literal("grpc-status", "0")
# A frame's head and its whole content, packed in one go.
RESPONSE_FRAME = struct.Struct(f"{FRAME_HEAD.format}{len(RESPONSE)}s")
OK_FRAME = struct.Struct(f"{FRAME_HEAD.format}{len(OK)}s")
# What a caller may have cancelled before it looks like an attack, if that is also most of its calls (CVE-2023-44487).
FREE_RESETS = 1000
# Printable ASCII but "%" (gRPC over HTTP/2, Percent-Byte-Unencoded).
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
# A caller that vanished without a word is asked after so long, so often, and given up (Linux).
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
Trailing = Sequence[tuple[str, str | bytes]]


class Stream(Protocol):
    """One open stream, as its connection sees it."""

    def take(self, payload: bytes, *, ended: bool) -> None:
        """Take what the caller sent; `ended` says that it was the last of it."""

    def cancelled(self) -> None:
        """Note that the caller went away. The stream has left its connection."""

    def overdue(self, now: float) -> bool:
        """Say whether its deadline has passed (time.monotonic() seconds) while its message was still coming."""


class Front(Protocol):
    """Who takes the calls in, and bounds what all connections hold."""

    limits: FrontLimits
    stopping: bool

    def opened(self, connection: "NativeConnection") -> None:
        """Note a new connection, or refuse it."""

    def closed(self, connection: "NativeConnection") -> None:
        """Note a connection's end."""

    def begin(self, connection: "NativeConnection", number: int, headers: RequestHeaders) -> Stream:
        """Give the stream of a call whose headers are in order."""

    def read(self) -> None:
        """Note that a connection's frames have been read."""

    def hold_frames(self, size: int) -> None:
        """Count bytes of frames that are not whole yet, or no longer; where they are too many, have one closed."""

    def idle(self) -> None:
        """Note that a connection has no stream any more."""


class NativeConnection(Conversation):
    """One connection. All methods run on the event loop's thread."""

    def __init__(self, front: Front, turn: Turn) -> None:
        super().__init__(
            settings_of(
                (HEADER_TABLE_SIZE, 0),
                (MAX_CONCURRENT_STREAMS, front.limits.max_streams),
                (INITIAL_WINDOW_SIZE, MAX_WINDOW),
                (MAX_FRAME_SIZE, OUR_FRAME),
                (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
            )
            + OUR_WINDOW,
            turn,
        )
        self.streams: dict[int, Stream] = {}
        self._front = front
        self._prefaced = False
        self._last = 0
        self._begun = 0
        self._resets = 0
        self.held = 0  # bytes of frames and header blocks that are not whole
        self._held_since = math.inf
        self._reader = BlockReader(request_headers, settled=False)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        super().connection_made(transport)
        self._transport = cast("asyncio.Transport", transport)
        _keep_alive(transport.get_extra_info("socket"))
        self._front.opened(self)

    @property
    def open_streams(self) -> int:
        """Give the number of calls that have not ended, and of those whose replies have not been sent to their end."""
        return len(self.streams) + self._out.held

    def pause_writing(self) -> None:
        """Read nothing more of a caller that does not read: each frame of its may ask for one of ours."""
        super().pause_writing()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._transport is not None and not self._transport.is_closing() and not self._out.paused:
            self._transport.resume_reading()
        self._front.idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every stream."""
        super().connection_lost(exc)
        self._front.closed(self)

    def _forget(self) -> None:
        super()._forget()
        self._front.hold_frames(-self.held)
        self.held = 0
        self._held_since = math.inf

    def data_received(self, data: bytes) -> None:
        """Read frames, once the caller has said that it speaks HTTP/2."""
        if not self._prefaced:
            self._buffer += data
            if not PREFACE.startswith(bytes(self._buffer[: len(PREFACE)])):
                self.abort()
                return
            if len(self._buffer) < len(PREFACE):
                return
            self._prefaced = True
            data = bytes(self._buffer[len(PREFACE) :])
            self._buffer.clear()
        super().data_received(data)

    def _read_frames(self, data: bytes) -> int:
        taken = super()._read_frames(data)
        self._front.read()
        block = len(self._partial[2])
        held = len(self._buffer) + block
        # Even where it is as much as before: of a busy caller each read may end as far inside another frame.
        if not held:
            self._held_since = math.inf
        elif self._held_since == math.inf or (taken and not block):
            self._held_since = monotonic()
        if held != self.held:
            more, self.held = held - self.held, held
            self._front.hold_frames(more)
        return taken

    def reply(self, number: int, message: bytes) -> None:
        """Answer a call that has not ended."""
        if self.streams.pop(number, None) is not None:
            self._out.send(
                number,
                RESPONSE_FRAME.pack(0, len(RESPONSE), HEADERS, END_HEADERS, number, RESPONSE),
                message,
                OK_FRAME.pack(0, len(OK), HEADERS, END_HEADERS | END_STREAM, number, OK),
            )
            if not self.streams:
                self._front.idle()

    def begin_messages(self, number: int) -> None:
        """Begin a reply of several messages."""
        self._out.open(number, frame(HEADERS, END_HEADERS, number, RESPONSE))

    def send_message(self, number: int, message: bytes) -> int:
        """Send one of several messages; give how many bytes the caller has not taken yet."""
        return self._out.more(number, message)

    def end(self, number: int, code: StatusCode, text: str, trailing: Trailing = (), *, begun: bool = False) -> None:
        """End a call that has not ended with a status; `begun` says that its reply was begun."""
        if self.streams.pop(number, None) is not None:
            self._write_end(number, code, text, trailing, begun=begun)
            if not self.streams:
                self._front.idle()

    def fail(self, number: int, error: ServeError) -> None:
        """Refuse a call that has not ended."""
        self.end(number, code_of(error), text_of(error), details_of(error))

    def leave(self) -> None:
        """Say that no further call will be looked at."""
        self._out.write(self._goodbye(NO_ERROR))

    def close(self) -> None:
        """End what is still open, write what can be written, and close."""
        self._shut(NO_ERROR, "")

    def refuse(self) -> None:
        """Close a connection that holds too much, or for too long."""
        self._shut(ENHANCE_YOUR_CALM, "")
        self._forget()

    def stalled(self, now: float) -> bool:
        """Say whether a frame or header block has been on its way for longer than any call may take.

        now: time.monotonic() seconds.
        """
        return now - self._held_since > self._front.limits.max_deadline_s

    def abort(self) -> None:
        """Close without a word."""
        self._out.transport = None
        if self._transport is not None:
            self._transport.abort()

    def must_be_settled(self) -> None:
        """Close a connection whose caller has not said that it speaks HTTP/2."""
        if not self.settled:
            self.abort()

    # Frames.

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        payload = self._content(flags, payload)
        stream = self.streams.get(number)
        if stream is not None:
            stream.take(payload, ended=bool(flags & END_STREAM))
        else:
            self._check(number)

    def _block(self, flags: int, number: int, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            if not flags & END_STREAM:
                raise ProtocolError("trailers that do not end their stream")
            self._reader.read(block)
            stream.take(b"", ended=True)
            return
        if not number & 1 or number <= self._last:
            raise ProtocolError("headers of a stream that is not new")
        self._last = number
        self._begun += 1
        self._begin(number, self._reader.read(block), ended=bool(flags & END_STREAM))

    def _begin(self, number: int, headers: RequestHeaders, *, ended: bool) -> None:
        limits = self._front.limits
        if self.open_streams >= limits.max_streams:
            self._out.write(frame(RST_STREAM, 0, number, LONG.pack(REFUSED_STREAM)))
            return
        if headers.http:
            block = literal(":status", headers.http)
            self._out.write(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        elif self._front.stopping:
            error = Draining()
            self._write_end(number, code_of(error), text_of(error), details_of(error))
        elif headers.encoding != "identity":
            text = f"Compression algorithm '{headers.encoding}' is disabled."
            self._write_end(number, StatusCode.UNIMPLEMENTED, text)
        elif headers.size > limits.max_metadata_bytes:
            text = f"received metadata size exceeds limit ({headers.size} vs. {limits.max_metadata_bytes})"
            self._write_end(number, StatusCode.RESOURCE_EXHAUSTED, text)
        else:
            stream = self.streams[number] = self._front.begin(self, number, headers)
            if ended:
                stream.take(b"", ended=True)

    def _write_end(
        self, number: int, code: StatusCode, text: str, trailing: Trailing = (), *, begun: bool = False
    ) -> None:
        block = (b"" if begun else RESPONSE) + literal("grpc-status", str(code.value[0]))
        if text:
            block += literal("grpc-message", quote(text, safe=PLAIN))
        for name, value in trailing:
            block += literal(name, value if isinstance(value, str) else b64encode(value).rstrip(b"=").decode())
        tail = frame(HEADERS, END_HEADERS | END_STREAM, number, block)
        if begun:
            self._out.end(number, tail)
        else:
            self._out.drop(number)
            self._out.write(tail)

    def _check(self, number: int) -> None:
        if not number & 1 or number > self._last:
            raise ProtocolError("a frame for a stream that was never begun")

    def _knows(self, number: int) -> bool:
        if number in self.streams:
            return True
        self._check(number)
        # Of a reply that has not been sent to its end, the stream is no call any more.
        return self._out.holds(number)

    def _ended(self, number: int, code: int) -> None:
        del code
        self._check(number)
        unsent = self._out.drop(number)
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.cancelled()
            if not self.streams:
                self._front.idle()
        if stream is not None or unsent:
            self._resets += 1
            if self._resets > FREE_RESETS and 2 * self._resets > self._begun:
                raise ProtocolError("cancels most of what it asks", ENHANCE_YOUR_CALM)

    def _acknowledged(self) -> None:
        self._reader.settle()

    def _gone(self, text: str) -> None:
        del text
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.cancelled()

    def _goodbye(self, code: int) -> bytes:
        return frame(GOAWAY, 0, 0, GOODBYE.pack(self._last, code))


def _keep_alive(connected: socket.socket) -> None:
    """Have the kernel notice callers that vanish."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
