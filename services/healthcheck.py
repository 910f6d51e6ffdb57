"""A container's health check: `python -m services.healthcheck HOST:PORT` asks grpc.health.v1 whether it is SERVING.

Exit code 0: it is; 1: it is not, or does not answer, with the reason in one line; 2: a bad argument.

The standard library alone speaks the little HTTP/2 that one call needs: importing grpc takes three times the CPU of
this whole check (docs/adr/0020-containers-by-compose.md), on cores that somebody may be measuring.
"""

import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence

METHOD = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}, field 1 as varint 1
TIMEOUT_S = 3.0
# RFC 9113: the client's first bytes, sections 3.4, 4.1 and 6.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
FRAME_HEADER_BYTES = 9
MESSAGE_PREFIX_BYTES = 5
MAX_LETTERS = 126  # RFC 7541, 5.1: what a length of one byte can say
MAX_BYTES = 2**14 - MESSAGE_PREFIX_BYTES  # one frame: more needs the server's leave (RFC 9113, 4.2)


class Unhealthy(Exception):
    """The server does not answer as a healthy one; the text says what it does."""


def call(address: str, method: str, message: bytes, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the reply to one unary gRPC call of at most MAX_BYTES, without TLS. Raises Unhealthy and OSError."""
    host, _, port = address.rpartition(":")
    give_up = time.monotonic() + TIMEOUT_S
    with socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S) as connection:
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": address,
            "content-type": "application/grpc",
            "te": "trailers",
            "grpc-timeout": f"{TIMEOUT_S:.0f}S",
            **(metadata or {}),
        }
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
        connection.sendall(
            PREFACE
            + _frame(SETTINGS, 0, 0, b"")
            + _frame(HEADERS, END_HEADERS, 1, block)
            + _frame(DATA, END_STREAM, 1, b"\0" + len(message).to_bytes(4) + message)
        )
        return _reply(connection, give_up)


def _reply(connection: socket.socket, give_up: float) -> bytes:
    """Return the message. A refused call has none: its status comes in headers alone."""
    body = b""
    while True:
        header = _read(connection, FRAME_HEADER_BYTES, give_up)
        length, kind, flags, stream = int.from_bytes(header[:3]), header[3], header[4], int.from_bytes(header[5:])
        payload = _read(connection, length, give_up)
        if kind == GOAWAY or (kind == RST_STREAM and stream == 1):
            raise Unhealthy("the connection ended without a reply")
        if kind == DATA:
            body += payload
        if stream == 1 and flags & END_STREAM:
            if len(body) < MESSAGE_PREFIX_BYTES:
                raise Unhealthy("it refused the call")
            return body[MESSAGE_PREFIX_BYTES:]


def _read(connection: socket.socket, count: int, give_up: float) -> bytes:
    found = b""
    while len(found) < count:
        # Of the whole call's time: a server that sends something now and then must not hold us for ever.
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left_s)
        piece = connection.recv(count - len(found))
        if not piece:
            raise Unhealthy("the connection was closed without a reply")
        found += piece
    return found


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _text(text: str) -> bytes:
    """Encode an HPACK string: its length, no Huffman code (RFC 7541, 5.2)."""
    raw = text.encode("ascii")
    if len(raw) > MAX_LETTERS:
        raise Unhealthy(f"{len(raw)} characters of metadata exceed this check's limit")
    return bytes((len(raw),)) + raw


def check(address: str) -> None:
    """Raise Unhealthy or OSError unless the whole server, the service "", is SERVING."""
    if call(address, METHOD, b"") != SERVING:
        raise Unhealthy("it is NOT_SERVING")


def main(argv: Sequence[str]) -> int:
    """Check the server and return the exit code."""
    if len(argv) != 1 or not re.fullmatch(r".+:\d{1,5}", argv[0]):
        print("usage: python -m services.healthcheck HOST:PORT", file=sys.stderr)
        return 2
    try:
        check(argv[0])
    except (Unhealthy, OSError) as error:
        print(f"{argv[0]} is not healthy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
