"""The one HTTP/2 conversation that a gateway has with a server: unary gRPC calls, many at once, on one connection.

grpcio's asyncio client needs about 200 us for a call on loopback, most of it its own machinery; this needs a fifth
(docs/performance.md). It is small because it does one thing: no streaming, no TLS, no compression, no push. What it
promises a caller is grpcio's: one outcome per call, a gRPC code for everything that goes wrong.

RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC over HTTP/2. The peer is told to use no dynamic header table, so equal header
blocks mean equal headers, and a block that was read once is looked up.
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast
from urllib.parse import unquote

import hpack
from grpc import StatusCode

log = logging.getLogger(__name__)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 3, 7, 8, 11
FRAME_HEAD = struct.Struct(">HBBBL")  # length as 2 + 1 bytes, type, flags, stream
SETTING = struct.Struct(">HL")
LONG = struct.Struct(">L")
MESSAGE_HEAD = struct.Struct(">BL")  # compressed flag, length

MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 2**16 - 1
DEFAULT_FRAME = 2**14
OUR_FRAME = 2**20
# Credit given back to the peer once this much has been read; the window itself is the largest there is.
CREDIT_STEP = 2**28
# A new connection is begun long before the 2**31 stream numbers of one are used up.
LAST_STREAM = 2**30
MAX_HEADER_BLOCK = 2**16
MAX_CACHED_BLOCKS = 256

# gRPC's own table of what an HTTP/2 error on a stream means.
RESET_CODES: Mapping[int, StatusCode] = MappingProxyType(
    {
        NO_ERROR: StatusCode.INTERNAL,
        REFUSED_STREAM: StatusCode.UNAVAILABLE,
        CANCEL: StatusCode.CANCELLED,
        ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    },
)
CODES: Mapping[str, StatusCode] = MappingProxyType({str(code.value[0]): code for code in StatusCode})
# And of what an HTTP status without a grpc-status means.
HTTP_CODES: Mapping[str, StatusCode] = MappingProxyType(
    {
        "400": StatusCode.INTERNAL,
        "401": StatusCode.UNAUTHENTICATED,
        "403": StatusCode.PERMISSION_DENIED,
        "404": StatusCode.UNIMPLEMENTED,
        "429": StatusCode.UNAVAILABLE,
        "502": StatusCode.UNAVAILABLE,
        "503": StatusCode.UNAVAILABLE,
        "504": StatusCode.UNAVAILABLE,
    },
)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended.

    payload: the message's bytes when code is OK. trailing: the server's trailing metadata. unseen: the server says that it
    has not looked at the call.
    """

    code: StatusCode
    details: str = ""
    payload: bytes = b""
    trailing: Metadata = ()
    unseen: bool = False


Done = Callable[[Reply], None]


class ProtocolError(Exception):
    """The peer broke HTTP/2; the connection is closed with `code`."""

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def literal(name: str, value: str) -> bytes:
    """Give one header in HPACK's literal form that touches no table."""
    raw_name, raw_value = name.encode("ascii"), value.encode("ascii")
    return b"\0" + _integer(len(raw_name), 7) + raw_name + _integer(len(raw_value), 7) + raw_value


def _integer(value: int, bits: int) -> bytes:
    """Give an HPACK integer whose first `bits` bits share a byte with zeros (RFC 7541, 5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((value,))
    rest = [limit]
    value -= limit
    while value >= 0x80:  # noqa: PLR2004 - seven bits a byte
        rest.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*rest, value))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Give one HTTP/2 frame."""
    length = len(payload)
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


class _Stream:
    """One call on a connection."""

    __slots__ = ("blocks", "body", "done", "headers", "out", "window")

    def __init__(self, done: Done, window: int) -> None:
        self.done = done
        self.window = window
        self.out: memoryview | None = None  # what flow control holds back
        self.headers: dict[str, str] | None = None
        self.body: list[bytes] = []


class Connection(asyncio.Protocol):
    """One HTTP/2 connection. All methods run on the event loop's thread.

    closed: called once when no further call may be begun on it.
    """

    def __init__(self, max_message_bytes: int, closed: Callable[["Connection"], None]) -> None:
        self.usable = False
        self.room: Callable[[], None] | None = None  # called once when `full` has ended
        self._max_message_bytes = max_message_bytes
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._buffer = bytearray()
        self._blocked: deque[int] = deque()  # streams that wait for the connection's window
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._frame_size = DEFAULT_FRAME
        self._max_streams = MAX_WINDOW
        self._read = 0
        self._decoder = hpack.Decoder()
        self._decoder.max_allowed_table_size = 0
        self._known_blocks: dict[bytes, dict[str, str]] = {}
        self._partial: tuple[int, int, bytearray] | None = None  # stream, flags and block of unfinished HEADERS

    @property
    def full(self) -> bool:
        """Say whether the peer allows no further stream now."""
        return len(self._streams) >= self._max_streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our preface: no push, no header table, and windows that never hold a reply back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of asyncio's
        settings = (
            (HEADER_TABLE_SIZE, 0),
            (ENABLE_PUSH, 0),
            (INITIAL_WINDOW_SIZE, MAX_WINDOW),
            (MAX_FRAME_SIZE, OUR_FRAME),
        )
        payload = b"".join(SETTING.pack(*setting) for setting in settings)
        credit = frame(WINDOW_UPDATE, 0, 0, LONG.pack(MAX_WINDOW - DEFAULT_WINDOW))
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, payload) + credit)
        self.usable = True

    def begin(self, block: bytes, message: bytes, done: Done) -> int:
        """Begin a call: a header block and one message. Give its stream number; `done` is called once, unless cancelled."""
        assert self._transport is not None  # noqa: S101 - begin follows connection_made
        number = self._next
        self._next += 2
        stream = _Stream(done, self._stream_window)
        self._streams[number] = stream
        size = MESSAGE_HEAD.size + len(message)
        head = frame(HEADERS, END_HEADERS, number, block)
        if size <= self._frame_size and size <= self._window and size <= stream.window:
            self._window -= size
            data = FRAME_HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM, number)
            self._transport.write(b"".join((head, data, MESSAGE_HEAD.pack(0, len(message)), message)))
        else:
            self._transport.write(head)
            stream.out = memoryview(MESSAGE_HEAD.pack(0, len(message)) + message)
            self._push(number, stream)
        if self._next > LAST_STREAM:
            self._retire()
        return number

    def cancel(self, number: int) -> None:
        """Give a call up: its `done` is not called any more."""
        if self._streams.pop(number, None) is not None:
            self._write(frame(RST_STREAM, 0, number, LONG.pack(CANCEL)))
            self._make_room()

    def close(self) -> None:
        """Say goodbye and close; calls in flight end UNAVAILABLE."""
        self._write(frame(GOAWAY, 0, 0, LONG.pack(0) + LONG.pack(NO_ERROR)))
        self._retire()
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Read whole frames; what is left waits for the rest."""
        buffer = self._buffer
        buffer += data
        position, end = 0, len(buffer)
        try:
            while end - position >= FRAME_HEAD.size:
                high, low, kind, flags, stream = FRAME_HEAD.unpack_from(buffer, position)
                length = high << 8 | low
                if length > OUR_FRAME:
                    raise ProtocolError(f"a frame of {length} bytes")
                begin, position_after = position + FRAME_HEAD.size, position + FRAME_HEAD.size + length
                if position_after > end:
                    break
                self._frame(kind, flags, stream & MAX_WINDOW, bytes(buffer[begin:position_after]))
                position = position_after
        except ProtocolError as error:
            log.warning("a server broke HTTP/2: %s", error)
            self._abort(error.code)
        del buffer[:position]

    def connection_lost(self, exc: Exception | None) -> None:
        """End every call in flight."""
        del exc
        self._transport = None
        self._retire()
        self._fail_all(Reply(StatusCode.UNAVAILABLE, "connection lost"))

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._partial is not None and kind != CONTINUATION:
            raise ProtocolError("a header block was interrupted")
        match kind:
            case 0:
                self._data(flags, number, payload)
            case 1:
                self._headers(flags, number, _unpadded(flags, payload, PRIORITY))
            case 3:
                self._reset(number, payload)
            case 4:
                self._settings(flags, payload)
            case 5:
                raise ProtocolError("a push that was forbidden")
            case 6:
                if not flags & ACK:
                    self._write(frame(PING, ACK, 0, payload))
            case 7:
                self._goaway(payload)
            case 8:
                self._credit(number, payload)
            case 9:
                self._continuation(flags, number, payload)
            case _:
                pass  # extensions are to be ignored (RFC 9113, 4.1)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._read += len(payload)
        if self._read > CREDIT_STEP:
            self._write(frame(WINDOW_UPDATE, 0, 0, LONG.pack(self._read)))
            self._read = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # cancelled here while it was on its way
        stream.body.append(_unpadded(flags, payload) if flags & PADDED else payload)
        if sum(map(len, stream.body)) > self._max_message_bytes + MESSAGE_HEAD.size:
            self.cancel(number)
            stream.done(Reply(StatusCode.RESOURCE_EXHAUSTED, "the reply is too large"))
        elif flags & END_STREAM:
            self._end(number, stream, {})

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        if not flags & END_HEADERS:
            self._partial = (number, flags, bytearray(block))
            return
        headers = self._known_blocks.get(block)
        if headers is None:
            headers = self._decode(block)
        stream = self._streams.get(number)
        if stream is None:
            return
        if flags & END_STREAM:
            self._end(number, stream, headers)
        elif stream.headers is None and not headers.get(":status", "").startswith("1"):
            stream.headers = headers

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._partial is None or self._partial[0] != number:
            raise ProtocolError("a continuation of nothing")
        _, first_flags, block = self._partial
        block += payload
        if len(block) > MAX_HEADER_BLOCK:
            raise ProtocolError("a header block without end", ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._partial = None
            self._headers(first_flags | END_HEADERS, number, bytes(block))

    def _decode(self, block: bytes) -> dict[str, str]:
        try:
            headers = {str(name): str(value) for name, value in self._decoder.decode(block)}
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise ProtocolError("an unreadable header block") from error
        if len(self._known_blocks) < MAX_CACHED_BLOCKS:
            self._known_blocks[block] = headers
        return headers

    def _end(self, number: int, stream: _Stream, trailers: dict[str, str]) -> None:
        del self._streams[number]
        if stream.out is not None:
            # The server answered before it had read everything: take back what was not sent.
            self._write(frame(RST_STREAM, 0, number, LONG.pack(CANCEL)))
        stream.done(_reply(stream.headers or trailers, trailers, stream.body))
        self._make_room()

    def _reset(self, number: int, payload: bytes) -> None:
        if len(payload) != LONG.size:
            raise ProtocolError("a reset of the wrong size")
        stream = self._streams.pop(number, None)
        if stream is not None:
            (code,) = LONG.unpack(payload)
            unseen = code == REFUSED_STREAM
            stream.done(
                Reply(RESET_CODES.get(code, StatusCode.INTERNAL), f"RST_STREAM with code {code}", unseen=unseen)
            )
            self._make_room()

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        if len(payload) % SETTING.size:
            raise ProtocolError("settings of the wrong size")
        for key, value in SETTING.iter_unpack(payload):
            self._set(key, value)
        self._write(frame(SETTINGS, ACK, 0))
        self._push_all()

    def _set(self, key: int, value: int) -> None:
        if key == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ProtocolError("a window above 2^31-1", FLOW_CONTROL_ERROR)
            for stream in self._streams.values():
                stream.window += value - self._stream_window
            self._stream_window = value
        elif key == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME <= value < 2**24:
                raise ProtocolError("a frame size out of bounds")
            self._frame_size = value
        elif key == MAX_CONCURRENT_STREAMS:
            self._max_streams = value

    def _credit(self, number: int, payload: bytes) -> None:
        if len(payload) != LONG.size or not (more := LONG.unpack(payload)[0] & MAX_WINDOW):
            raise ProtocolError("a window update of the wrong size")
        if not number:
            self._window += more
            if self._window > MAX_WINDOW:
                raise ProtocolError("a window above 2^31-1", FLOW_CONTROL_ERROR)
            self._push_all()
        elif (stream := self._streams.get(number)) is not None:
            stream.window += more
            self._push(number, stream)

    def _goaway(self, payload: bytes) -> None:
        if len(payload) < 2 * LONG.size:
            raise ProtocolError("a goodbye of the wrong size")
        last = LONG.unpack_from(payload)[0] & MAX_WINDOW
        self._retire()
        for number in [number for number in self._streams if number > last]:
            self._streams.pop(number).done(Reply(StatusCode.UNAVAILABLE, "the server never saw the call", unseen=True))
        if not self._streams and self._transport is not None:
            self._transport.close()

    def _push_all(self) -> None:
        for number, stream in list(self._streams.items()):
            if stream.out is not None:
                self._push(number, stream)

    def _push(self, number: int, stream: _Stream) -> None:
        """Send as much of a held-back message as the windows allow."""
        while stream.out is not None:
            size = min(len(stream.out), self._window, stream.window, self._frame_size)
            if size <= 0:
                return
            self._window -= size
            stream.window -= size
            last = size == len(stream.out)
            self._write(frame(DATA, END_STREAM if last else 0, number, bytes(stream.out[:size])))
            stream.out = None if last else stream.out[size:]

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _make_room(self) -> None:
        if self.room is not None and not self.full:
            room, self.room = self.room, None
            room()

    def _retire(self) -> None:
        if self.usable:
            self.usable = False
            self._closed(self)

    def _abort(self, code: int) -> None:
        self._write(frame(GOAWAY, 0, 0, LONG.pack(0) + LONG.pack(code)))
        self._retire()
        self._fail_all(Reply(StatusCode.UNAVAILABLE, "the server broke the protocol"))
        if self._transport is not None:
            self._transport.abort()

    def _fail_all(self, reply: Reply) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.done(reply)


def _unpadded(flags: int, payload: bytes, also: int = 0) -> bytes:
    begin, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ProtocolError("padding without a length")
        begin, end = 1, end - payload[0]
    if also and flags & also:
        begin += 5  # a stream dependency and a weight
    if begin > end:
        raise ProtocolError("more padding than frame")
    return payload[begin:end]


def _reply(headers: dict[str, str], trailers: dict[str, str], body: list[bytes]) -> Reply:
    status = trailers.get("grpc-status")
    details = unquote(trailers.get("grpc-message", ""))
    trailing = tuple((name, value) for name, value in trailers.items() if not name.startswith((":", "grpc-")))
    if status is None:
        http = headers.get(":status", "")
        return Reply(HTTP_CODES.get(http, StatusCode.UNKNOWN), f"HTTP status {http} without a gRPC status")
    code = CODES.get(status, StatusCode.UNKNOWN)
    if code is not StatusCode.OK:
        return Reply(code, details, trailing=trailing)
    data = body[0] if len(body) == 1 else b"".join(body)
    if len(data) < MESSAGE_HEAD.size or MESSAGE_HEAD.unpack_from(data) != (0, len(data) - MESSAGE_HEAD.size):
        return Reply(StatusCode.INTERNAL, "the reply is not one uncompressed message")
    return Reply(code, details, data[MESSAGE_HEAD.size :], trailing)
