"""HTTP/2 on the wire: frames, their numbers, and headers in HPACK's plainest form (RFC 9113, RFC 7541)."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20
PADDED_OR_PRIORITISED = PADDED | PRIORITISED
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    *range(1, 7),
)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 0, 1, 2, 3, 6
STREAM_CLOSED, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 5, 7, 8, 9, 11

FRAME_HEAD = struct.Struct(">HBBBL")  # length as 2 + 1 bytes, type, flags, stream
FRAME_HEAD_BYTES = FRAME_HEAD.size
SETTING = struct.Struct(">HL")
LONG = struct.Struct(">L")
MESSAGE_HEAD = struct.Struct(">BL")  # gRPC's: compressed flag, length
MESSAGE_HEAD_BYTES = MESSAGE_HEAD.size
GOAWAY_HEAD = struct.Struct(">LL")  # last stream, error
MESSAGE_FRAME = struct.Struct(">HBBBLBL")  # a frame's head and that of the message which fills it

# HPACK's notice that the sender uses no table from now on (RFC 7541, 6.3).
NO_TABLE = b"\x20"

MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 2**16 - 1
DEFAULT_FRAME = 2**14
DEFAULT_TABLE = 2**12
OUR_FRAME = 2**20


class ProtocolError(Exception):
    """The peer broke HTTP/2; the connection is to be closed with `code`."""

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Encode one HTTP/2 frame."""
    length = len(payload)
    return b"".join((FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream), payload))


# The peer's windows are so large that they never hold it back; what it may send is bounded by what is read of it.
OUR_WINDOW = frame(WINDOW_UPDATE, 0, 0, LONG.pack(MAX_WINDOW - DEFAULT_WINDOW))


def settings_of(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in pairs))


def sized(payload: bytes, size: int) -> bytes:
    """Return a frame's content, which has one size only. Raises ProtocolError."""
    if len(payload) != size:
        raise ProtocolError("a frame of the wrong size", FRAME_SIZE_ERROR)
    return payload


def connection_wide(number: int) -> None:
    """Raise ProtocolError where a frame of the whole connection is on a stream."""
    if number:
        raise ProtocolError("a connection-level frame on a stream")


def unpadded(flags: int, payload: bytes, also: int = 0) -> bytes:
    """Return a frame's content without padding and, where a flag of `also` is set, without priority."""
    begin, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ProtocolError("padding without a length", FRAME_SIZE_ERROR)
        begin, end = 1, end - payload[0]
    if flags & also:
        begin += 5  # a stream dependency and a weight
    if begin > end:
        raise ProtocolError("more padding than frame")
    return payload[begin:end]


def literal(name: str, value: str) -> bytes:
    """Encode one header as an HPACK literal without indexing. Raises ValueError for non-ASCII text."""
    raw_name, raw_value = name.encode("ascii"), value.encode("ascii")
    return b"\0" + _length(len(raw_name)) + raw_name + _length(len(raw_value)) + raw_value


def request_head(path: str, authority: str) -> bytes:
    """Return the beginning of a header block for `Connection.begin`; the call's own fields follow (see `literal`)."""
    # Entries 3 and 6 of HPACK's static table are ":method: POST" and ":scheme: http".
    head = b"\x83\x86" + literal(":path", path) + literal(":authority", authority)
    return head + literal("te", "trailers") + literal("content-type", "application/grpc")


def _length(value: int) -> bytes:
    """Encode an HPACK integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 0x7F:  # noqa: PLR2004 - the seven bits of the first byte
        return bytes((value,))
    value -= 0x7F
    rest = [0x7F]
    while value >= 0x80:  # noqa: PLR2004 - seven bits a byte, the eighth says that more follow
        rest.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*rest, value))
