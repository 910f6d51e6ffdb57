"""A server's side of one connection, by hand: frames go in as a test says, and what was written is read back."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import hpack

from servepath.http2.client import Connection
from servepath.http2.replies import Reply

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, CREDIT, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0"), ("grpc-message", "")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream) + payload


def block(pairs: Sequence[tuple[str, str]]) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0  # as it was told: this puts the size update in front
    return bytes(encoder.encode(pairs))


def message(data: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BL", compressed, len(data)) + data


def settings(**values: int) -> bytes:
    keys = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", keys[key], value) for key, value in values.items()))


def answer(stream: int, data: bytes = b"") -> bytes:
    return (
        frame(HEADERS, END_HEADERS, stream, block(HEAD))
        + frame(DATA, 0, stream, message(data))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, block(TRAILERS))
    )


def goodbye(last: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last, code))


def credit(stream: int, more: int) -> bytes:
    return frame(CREDIT, 0, stream, struct.pack(">L", more))


@dataclass(frozen=True)
class Frame:
    """One frame that the connection wrote."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frames_of(written: bytes) -> list[Frame]:
    frames = []
    while written:
        length = int.from_bytes(written[:3], "big")
        kind, flags, stream = struct.unpack(">BBL", written[3:9])
        frames.append(Frame(kind, flags, stream, written[9 : 9 + length]))
        written = written[9 + length :]
    return frames


class Written:
    """An output: takes what is written, until it is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close


class Peer:
    """A connection, what it says, and how its calls ended: stream number -> replies."""

    def __init__(self, max_message_bytes: int = 2**20, *, greet: bool = True, **values: int) -> None:
        self.opened = self.lost = 0
        self.connection = Connection(max_message_bytes, self._opened, self._closed)
        self.output = Written()
        self.connection.start(self.output)
        self.ends: dict[int, list[Reply]] = {}
        if greet:
            self.say(settings(**values))

    def _opened(self) -> None:
        self.opened += 1

    def _closed(self, connection: Connection) -> None:
        assert not connection.usable
        self.lost += 1

    def say(self, *parts: bytes) -> None:
        self.connection.receive(b"".join(parts))

    def begin(self, data: bytes = b"question") -> int:
        ends: list[Reply] = []
        number = self.connection.begin(b"\x83", data, ends.append)
        self.ends[number] = ends
        return number

    def reply(self, number: int) -> Reply:
        """Return the one end of a call."""
        (reply,) = self.ends[number]
        return reply

    def heard(self) -> list[Frame]:
        """Return the frames written since the last time, without the preface."""
        written, self.output.written = self.output.written.removeprefix(PREFACE), b""
        return frames_of(written)

    def sent(self, kind: int) -> list[Frame]:
        return [frame for frame in self.heard() if frame.kind == kind]

    @property
    def error(self) -> int:
        """Return the error that the connection said GOAWAY with."""
        (goodbye,) = self.sent(GOAWAY)
        assert self.output.closed
        return int(struct.unpack(">LL", goodbye.payload)[1])
