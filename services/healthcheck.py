"""A container's health check: `python -m services.healthcheck HOST:PORT` asks grpc.health.v1 whether it is SERVING.

Exit code 0: it is; 1: it is not, or does not answer, with the reason in one line; 2: a bad argument.

It writes its one call with servepath.http2.frames, which needs the standard library alone. A connection of
servepath.http2 would do more, and needs grpc and hpack: importing grpc takes three times the CPU of this whole check
(docs/adr/0020-containers-by-compose.md), on cores that somebody may be measuring.
"""

import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence

from servepath.http2.frames import (
    DATA,
    DEFAULT_FRAME,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    FRAME_HEAD_BYTES,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    MESSAGE_HEAD,
    MESSAGE_HEAD_BYTES,
    OUR_WINDOW,
    PREFACE,
    RST_STREAM,
    frame,
    literal,
    request_head,
    settings_of,
)

METHOD = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}, field 1 as varint 1
TIMEOUT_S = 3.0
MAX_BYTES = DEFAULT_FRAME - MESSAGE_HEAD_BYTES  # one frame: more needs the server's leave (RFC 9113, 4.2)


class Unhealthy(Exception):
    """The server does not answer as a healthy one; the text says what it does."""


def call(
    address: str,
    method: str,
    message: bytes,
    metadata: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Return the reply to one unary gRPC call of at most MAX_BYTES, without TLS. Raises Unhealthy and OSError."""
    host, _, port = address.rpartition(":")
    give_up = time.monotonic() + timeout_s
    with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
        own = {"grpc-timeout": f"{timeout_s:.0f}S", **(metadata or {})}
        block = request_head(method, address) + b"".join(literal(name, value) for name, value in own.items())
        connection.sendall(
            PREFACE
            + settings_of((INITIAL_WINDOW_SIZE, MAX_WINDOW))
            + OUR_WINDOW
            + frame(HEADERS, END_HEADERS, 1, block)
            + frame(DATA, END_STREAM, 1, MESSAGE_HEAD.pack(0, len(message)) + message)
        )
        return _reply(connection, give_up)


def _reply(connection: socket.socket, give_up: float) -> bytes:
    """Return the message. A refused call has none: its status comes in headers alone."""
    body = bytearray()
    while True:
        high, low, kind, flags, stream = FRAME_HEAD.unpack(_read(connection, FRAME_HEAD_BYTES, give_up))
        payload = _read(connection, high << 8 | low, give_up)
        if kind == GOAWAY or (kind == RST_STREAM and stream == 1):
            raise Unhealthy("the connection ended without a reply")
        if kind == DATA:
            body += payload
        if stream == 1 and flags & END_STREAM:
            if len(body) < MESSAGE_HEAD_BYTES:
                raise Unhealthy("it refused the call")
            return bytes(body[MESSAGE_HEAD_BYTES:])


def _read(connection: socket.socket, count: int, give_up: float) -> bytes:
    found = bytearray()
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
    return bytes(found)


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
