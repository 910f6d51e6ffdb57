"""A client's side of a connection: unary gRPC calls, many at once.

grpcio's asyncio client needs about 200 us for a call on loopback, most of it its own machinery; this needs a fraction
(docs/performance.md). It is small because it does one thing: no streaming, no TLS, no compression, no push. What it
promises a caller is grpcio's: one outcome per call, a gRPC code for everything that goes wrong.

RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC over HTTP/2.
"""

import logging
from collections.abc import Callable

from grpc import StatusCode

from servepath.http2.connection_base import ConnectionBase
from servepath.http2.frames import (
    CANCEL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LONG,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    MESSAGE_HEAD_BYTES,
    NO_ERROR,
    OUR_FRAME,
    OUR_WINDOW,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    ProtocolError,
    frame,
    settings_of,
    unpadded,
)
from servepath.http2.header_decoder import MAX_HEADER_LIST, HeaderDecoder
from servepath.http2.replies import NO_HEADERS, RESET_CODES, Headers, Reply, headers_of, reply_of
from servepath.http2.send_queue import Output
from servepath.http2.write_coalescer import WriteCoalescer

log = logging.getLogger(__name__)

# The peer may use no header table and must not push; its windows are so large that they never hold a reply back.
OUR_SETTINGS = (
    (HEADER_TABLE_SIZE, 0),
    (ENABLE_PUSH, 0),
    (INITIAL_WINDOW_SIZE, MAX_WINDOW),
    (MAX_FRAME_SIZE, OUR_FRAME),
    (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
)
GREETING = PREFACE + settings_of(*OUR_SETTINGS) + OUR_WINDOW
# In grpcio's words, by which error_mapping tells it from a server that has too much to do.
REPLY_TOO_LARGE = "CLIENT: Received message larger than max"
# Retired long before the 2**31 stream numbers of a connection are used up.
LAST_STREAM = 2**30
Done = Callable[[Reply], None]


class NoHttp2Error(ConnectionError):
    """Something took the connection, and did not greet as a gRPC server does."""


class _Stream:
    """One call on a connection, and what has come of its reply."""

    __slots__ = ("body", "done", "head")

    def __init__(self, done: Done) -> None:
        self.done = done
        self.head: Headers | None = None
        self.body: bytes | bytearray = b""


class Connection(ConnectionBase):
    """One HTTP/2 connection to a server.

    opened: called once, when the server has sent its settings or never will: see `usable`. closed: called once when a
    connection that was usable is not so any more; calls in flight may still be answered.
    """

    def __init__(
        self,
        max_message_bytes: int,
        opened: Callable[[], object],
        closed: Callable[["Connection"], object],
        coalescer: WriteCoalescer | None = None,
    ) -> None:
        super().__init__(GREETING, coalescer)
        self.usable = False
        self.room: Callable[[], None] | None = None  # called once when `full` has ended
        self._max_body = max_message_bytes + MESSAGE_HEAD_BYTES
        self._opened: Callable[[], object] | None = opened  # None once it has been called
        self._closed = closed
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._out.announce_no_table()
        # It sees our settings before our first call, so no block of its comes before them.
        self._reader = HeaderDecoder(headers_of, settled=True)

    def start(self, output: Output) -> None:
        """Send the greeting."""
        self._greet(output)

    @property
    def full(self) -> bool:
        """Return whether no call may be started now: the peer allows no further stream, or does not read."""
        return self._out.paused or len(self._streams) >= self._max_streams

    def begin(self, block: bytes, message: bytes, done: Done) -> int:
        """Start a call on a usable connection: a header block and one message. Return its stream number.

        `done` is called once, and later, unless the call is cancelled.
        """
        number = self._next
        self._next += 2
        self._streams[number] = _Stream(done)
        self._out.send(number, frame(HEADERS, END_HEADERS, number, block), message)
        if self._next > LAST_STREAM:
            self._retire()
        return number

    def cancel(self, number: int) -> None:
        """Cancel a call: its `done` is not called any more. Does nothing to a call that has ended."""
        if self._streams.pop(number, None) is not None:
            self._out.drop(number)
            self._out.write(frame(RST_STREAM, 0, number, LONG.pack(CANCEL)))
            self._on_capacity()

    def close(self) -> None:
        """Send GOAWAY and close; calls in flight end UNAVAILABLE."""
        self._shut(NO_ERROR, "the connection was closed here")

    def _find(self, number: int) -> _Stream | None:
        """Return a call's stream, or None if it has ended."""
        stream = self._streams.get(number)
        if stream is None and (number >= self._next or not number & 1):
            raise ProtocolError("a frame for a stream that was never opened")
        return stream

    def _knows(self, number: int) -> bool:
        return self._find(number) is not None

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = unpadded(flags, payload)
        stream = self._find(number)
        if stream is None:
            return  # cancelled here while it was on its way
        if not stream.body:
            stream.body = payload
        else:
            if isinstance(stream.body, bytes):
                stream.body = bytearray(stream.body)
            stream.body += payload
        if stream.head is None:
            self._malformed(number)
        elif len(stream.body) > self._max_body:
            self._finish(number, Reply(StatusCode.RESOURCE_EXHAUSTED, REPLY_TOO_LARGE), CANCEL)
        elif flags & END_STREAM:
            self._finish(number, reply_of(stream.head, NO_HEADERS, stream.body))

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

    def _ended(self, number: int, code: int) -> None:
        if self._knows(number):
            text = f"the server ended the stream with error {code}"
            reply = Reply(RESET_CODES.get(code, StatusCode.INTERNAL), text, not_processed=code == REFUSED_STREAM)
            self._out.drop(number)
            self._finish(number, reply)

    def _on_goaway(self, last: int) -> None:
        self._retire()
        for late in [number for number in self._streams if number > last]:
            self._finish(late, Reply(StatusCode.UNAVAILABLE, "the server did not process the call", not_processed=True))

    def _finish(self, number: int, reply: Reply, error: int | None = None) -> None:
        """End a call, and reset its stream with `error` if it is still open."""
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
            log.exception("a done callback of a call raised")
        self._on_capacity()

    def _malformed(self, number: int) -> None:
        self._finish(number, Reply(StatusCode.INTERNAL, "the reply is not gRPC"), PROTOCOL_ERROR)

    def _on_capacity(self) -> None:
        """Use capacity that may have become free: for another call or, after a GOAWAY, to close."""
        if self.settled and self._opened is not None:
            self.usable = True
            self._report_opened()
        if not self.usable:
            if not self._streams:
                self._out.close()
        elif self.room is not None and not self.full:
            room, self.room = self.room, None
            room()

    def _retire(self) -> None:
        """Accept no further calls."""
        self._report_opened()
        if self.usable:
            self.usable = False
            self._closed(self)
        self._on_capacity()

    def _report_opened(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened()

    def _on_lost(self, text: str) -> None:
        self._retire()
        while self._streams:
            self._finish(next(iter(self._streams)), Reply(StatusCode.UNAVAILABLE, text))
