"""The one HTTP/2 conversation that a gateway has with a server: unary gRPC calls, many at once, on one connection.

grpcio's asyncio client needs about 200 us for a call on loopback, most of it its own machinery; this needs a fraction
(docs/performance.md). It is small because it does one thing: no streaming, no TLS, no compression, no push. What it
promises a caller is grpcio's: one outcome per call, a gRPC code for everything that goes wrong.

RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC over HTTP/2.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, cast

from grpc import StatusCode

from services.gateway.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_HEAD,
    FRAME_SIZE_ERROR,
    GOAWAY,
    GOODBYE,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    LONG,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    MESSAGE_HEAD,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    ProtocolError,
    frame,
    unpadded,
)
from services.gateway.outbox import Outbox
from services.gateway.replies import (
    MAX_HEADER_LIST,
    NO_HEADERS,
    RESET_CODES,
    HeaderReader,
    Headers,
    Reply,
    reply_of,
)

log = logging.getLogger(__name__)

OUR_FRAME = 2**20
# The peer may use no header table and must not push; its windows are so large that they never hold a reply back.
OUR_SETTINGS = (
    (HEADER_TABLE_SIZE, 0),
    (ENABLE_PUSH, 0),
    (INITIAL_WINDOW_SIZE, MAX_WINDOW),
    (MAX_FRAME_SIZE, OUR_FRAME),
    (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
)
GREETING = (
    PREFACE
    + frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in OUR_SETTINGS))
    + frame(WINDOW_UPDATE, 0, 0, LONG.pack(MAX_WINDOW - DEFAULT_WINDOW))
)
# The connection's credit is given back to the peer once this much has been read.
CREDIT_STEP = 2**28
# Retired long before the 2**31 stream numbers of a connection are used up.
LAST_STREAM = 2**30
# Unsent bytes above which nothing more is written, and below which it goes on.
WRITE_HIGH, WRITE_LOW = 2**20, 2**18
Done = Callable[[Reply], None]


class _Stream:
    """One call on a connection, and what has come of its reply."""

    __slots__ = ("body", "done", "head")

    def __init__(self, done: Done) -> None:
        self.done = done
        self.head: Headers | None = None
        self.body: bytes | bytearray = b""


class Connection(asyncio.Protocol):
    """One HTTP/2 connection. All methods run on the event loop's thread.

    closed: called once when a connection that was usable is not so any more; calls in flight may still be answered.
    """

    def __init__(self, max_message_bytes: int, closed: Callable[["Connection"], None]) -> None:
        self.opened = asyncio.Event()  # the server has sent its settings, or never will: see `usable`
        self.usable = False
        self.room: Callable[[], None] | None = None  # called once when `full` has ended
        self._max_body = max_message_bytes + MESSAGE_HEAD.size
        self._closed = closed
        self._out = Outbox()
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._buffer = bytearray()
        self._awaited: int | None = SETTINGS  # the only kind of frame that may come now
        self._partial = (0, 0, bytearray())  # stream, flags and block of unfinished HEADERS
        self._reader = HeaderReader()
        self._read = 0
        self._max_streams = MAX_WINDOW

    @property
    def full(self) -> bool:
        """Say whether no further call may be begun now: the peer allows no further stream, or does not read."""
        return self._out.paused or len(self._streams) >= self._max_streams

    def begin(self, block: bytes, message: bytes, done: Done) -> int:
        """Begin a call on a usable connection: a header block and one message. Give its stream number.

        `done` is called once, and later, unless the call is cancelled.
        """
        number = self._next
        self._next += 2
        self._streams[number] = _Stream(done)
        self._out.request(number, block, message)
        if self._next > LAST_STREAM:
            self._retire()
        return number

    def cancel(self, number: int) -> None:
        """Give a call up: its `done` is not called any more. Does nothing to a call that has ended."""
        if self._streams.pop(number, None) is not None:
            self._out.drop(number)
            self._out.write(frame(RST_STREAM, 0, number, LONG.pack(CANCEL)))
            self._left()

    def close(self) -> None:
        """Say goodbye and close; calls in flight end UNAVAILABLE."""
        self._shut(NO_ERROR, "the connection was closed here")

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet; calls wait for the peer's settings."""
        self._out.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of asyncio's
        self._out.transport.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        self._out.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Read whole frames; what is left waits for the rest."""
        if self._out.transport is None:
            return  # closed here
        buffer = self._buffer
        try:
            if buffer:
                buffer += data
                del buffer[: self._parse(buffer)]
            else:
                buffer += data[self._parse(data) :]
        except ProtocolError as error:
            log.warning("a server broke HTTP/2: %s", error)
            self._shut(error.code, "the server broke HTTP/2")
        except Exception:
            log.exception("a reply could not be read")
            self._shut(INTERNAL_ERROR, "the reply could not be read")

    def pause_writing(self) -> None:
        """Write nothing more: the peer does not keep up."""
        self._out.paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._out.resume()
        self._left()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every call in flight."""
        del exc
        self._out.transport = None
        self._retire()
        self._fail_all("the connection was lost")

    # Frames.

    def _parse(self, data: bytes | bytearray) -> int:
        """Take the whole frames in `data`; give the number of bytes taken."""
        position, end = 0, len(data)
        while end - position >= FRAME_HEAD.size:
            high, low, kind, flags, number = FRAME_HEAD.unpack_from(data, position)
            begin = position + FRAME_HEAD.size
            after = begin + (high << 8 | low)
            if after - begin > OUR_FRAME:
                raise ProtocolError(f"a frame of {after - begin} bytes", FRAME_SIZE_ERROR)
            if after > end:
                break
            position = after
            self._take(kind, flags, number & MAX_WINDOW, bytes(data[begin:after]))
        return position

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._awaited is not None and kind != self._awaited:
            raise ProtocolError(f"a frame of type {kind} where only type {self._awaited} may come")
        handler = self._HANDLERS.get(kind)
        if handler is not None:  # others, PRIORITY among them, are to be ignored (RFC 9113, 4.1 and 5.3)
            handler(self, flags, number, payload)

    def _find(self, number: int) -> _Stream | None:
        """Give a call's stream, or None if it has ended."""
        stream = self._streams.get(number)
        if stream is None and (number >= self._next or not number & 1):
            raise ProtocolError("a frame for a stream that was never begun")
        return stream

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._read += len(payload)
        if self._read > CREDIT_STEP:
            self._out.write(frame(WINDOW_UPDATE, 0, 0, LONG.pack(self._read)))
            self._read = 0
        stream = self._find(number)
        if stream is None:
            return  # cancelled here while it was on its way
        if flags & PADDED:
            payload = unpadded(flags, payload)
        if not stream.body:
            stream.body = payload
        else:
            if isinstance(stream.body, bytes):
                stream.body = bytearray(stream.body)
            stream.body += payload
        if stream.head is None:
            self._malformed(number)
        elif len(stream.body) > self._max_body:
            self._finish(number, Reply(StatusCode.RESOURCE_EXHAUSTED, "the reply is too large"), CANCEL)
        elif flags & END_STREAM:
            self._finish(number, reply_of(stream.head, NO_HEADERS, stream.body))

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        block = unpadded(flags, payload, PRIORITY)
        if flags & END_HEADERS:
            self._block(flags, number, block)
        else:
            self._awaited = CONTINUATION
            self._partial = (number, flags, bytearray(block))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        first, first_flags, block = self._partial
        if self._awaited is None or number != first:
            raise ProtocolError("a continuation of nothing")
        block += payload
        if len(block) > MAX_HEADER_LIST:
            raise ProtocolError("a header block without end", ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._awaited = None
            self._block(first_flags, number, bytes(block))

    def _block(self, flags: int, number: int, block: bytes) -> None:
        stream = self._find(number)
        if stream is None:
            return
        headers = self._reader.read(block)
        if flags & END_STREAM:
            self._finish(number, reply_of(stream.head or headers, headers, stream.body))
        elif stream.head is not None:
            self._malformed(number)
        elif not headers.informational:
            stream.head = headers

    def _reset(self, _: int, number: int, payload: bytes) -> None:
        (code,) = LONG.unpack(_sized(payload, LONG.size))
        if self._find(number) is not None:
            text = f"the server ended the stream with error {code}"
            reply = Reply(RESET_CODES.get(code, StatusCode.INTERNAL), text, unseen=code == REFUSED_STREAM)
            self._out.drop(number)
            self._finish(number, reply)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        _connection_wide(number)
        if flags & ACK:
            _sized(payload, 0)
            if self._awaited is not None:
                raise ProtocolError("settings confirmed before any were sent")
            return
        if len(payload) % SETTING.size:
            raise ProtocolError("settings of the wrong size", FRAME_SIZE_ERROR)
        for key, value in SETTING.iter_unpack(payload):
            self._set(key, value)
        self._out.confirm(frame(SETTINGS, ACK, 0))
        if self._awaited is not None:
            self._awaited = None
            self.usable = True
            self.opened.set()
        self._out.push_all()
        self._left()

    def _set(self, key: int, value: int) -> None:
        if key == INITIAL_WINDOW_SIZE:
            self._out.set_stream_window(value)
        elif key == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME <= value < 2**24:
                raise ProtocolError("a frame size out of bounds")
            self._out.frame_size = value
        elif key == MAX_CONCURRENT_STREAMS:
            self._max_streams = value

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise ProtocolError("a push that was forbidden")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        _connection_wide(number)
        if not flags & ACK:
            self._out.confirm(frame(PING, ACK, 0, _sized(payload, 8)))

    def _goaway(self, _: int, number: int, payload: bytes) -> None:
        _connection_wide(number)
        if len(payload) < GOODBYE.size:
            raise ProtocolError("a goodbye of the wrong size", FRAME_SIZE_ERROR)
        last, code = GOODBYE.unpack_from(payload)
        if code != NO_ERROR:
            log.warning("a server closes the connection because of error %d", code)
        self._retire()
        for late in [number for number in self._streams if number > last & MAX_WINDOW]:
            self._finish(late, Reply(StatusCode.UNAVAILABLE, "the server has not seen the call", unseen=True))

    def _credit(self, _: int, number: int, payload: bytes) -> None:
        more = LONG.unpack(_sized(payload, LONG.size))[0] & MAX_WINDOW
        if not more:
            raise ProtocolError("a window update of nothing")
        if not number:
            self._out.credit(more)
        elif self._find(number) is not None:
            self._out.credit_stream(number, more)

    _HANDLERS: ClassVar[Mapping[int, Callable[["Connection", int, int, bytes], None]]] = MappingProxyType(
        {
            DATA: _data,
            HEADERS: _headers,
            RST_STREAM: _reset,
            SETTINGS: _settings,
            PUSH_PROMISE: _push_promise,
            PING: _ping,
            GOAWAY: _goaway,
            WINDOW_UPDATE: _credit,
            CONTINUATION: _continuation,
        }
    )

    # Ends.

    def _finish(self, number: int, reply: Reply, error: int | None = None) -> None:
        """End a call, and its stream with `error` if the server has not ended it or has not seen all of it."""
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        if self._out.drop(number):
            error = NO_ERROR if error is None else error
        if error is not None:
            self._out.write(frame(RST_STREAM, 0, number, LONG.pack(error)))
        try:
            stream.done(reply)
        except Exception:
            log.exception("the end of a call raised")
        self._left()

    def _malformed(self, number: int) -> None:
        self._finish(number, Reply(StatusCode.INTERNAL, "the reply is no gRPC"), PROTOCOL_ERROR)

    def _left(self) -> None:
        """Make use of a place that may have become free: for another call or, after a goodbye, to close."""
        if not self.usable:
            if not self._streams and self._out.transport is not None:
                self._out.transport.close()
                self._out.transport = None
        elif self.room is not None and not self.full:
            room, self.room = self.room, None
            room()

    def _retire(self) -> None:
        """Take no further calls."""
        self.opened.set()
        if self.usable:
            self.usable = False
            self._closed(self)
        self._left()

    def _shut(self, code: int, text: str) -> None:
        self._out.write(frame(GOAWAY, 0, 0, GOODBYE.pack(0, code)))
        transport, self._out.transport = self._out.transport, None
        if transport is not None:
            transport.close()
        self._retire()
        self._fail_all(text)

    def _fail_all(self, text: str) -> None:
        while self._streams:
            self._finish(next(iter(self._streams)), Reply(StatusCode.UNAVAILABLE, text))


def _connection_wide(number: int) -> None:
    if number:
        raise ProtocolError("a frame of the whole connection on one stream")


def _sized(payload: bytes, size: int) -> bytes:
    if len(payload) != size:
        raise ProtocolError("a frame of the wrong size", FRAME_SIZE_ERROR)
    return payload
