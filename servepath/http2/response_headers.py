"""The header blocks that a server replies with, every field as a literal: they touch no table (gRPC over HTTP/2)."""

import struct
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import quote

from grpc import StatusCode

from servepath.http2.frames import END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, frame, literal

# Entry 8 of HPACK's static table is ":status: 200".
RESPONSE = b"\x88" + literal("content-type", "application/grpc")
OK = literal("grpc-status", "0")
# A frame's head and its whole content, packed in one go.
RESPONSE_FRAME = struct.Struct(f"{FRAME_HEAD.format}{len(RESPONSE)}s")
OK_FRAME = struct.Struct(f"{FRAME_HEAD.format}{len(OK)}s")
# Printable ASCII but "%" (gRPC over HTTP/2, Percent-Byte-Unencoded).
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
# What a caller that compresses is told to send (gRPC's compression.md).
ENCODINGS = (("grpc-accept-encoding", "identity"),)
MAX_NAME = 40
Trailing = Sequence[tuple[str, str | bytes]]


def head_of(number: int) -> bytes:
    """Return the frame that begins a reply."""
    return RESPONSE_FRAME.pack(0, len(RESPONSE), HEADERS, END_HEADERS, number, RESPONSE)


def end_of(number: int, code: StatusCode, text: str, trailing: Trailing = (), *, begun: bool = False) -> bytes:
    """Return the frame that ends a reply with a status; `begun` says that the reply was begun."""
    block = (b"" if begun else RESPONSE) + literal("grpc-status", str(code.value[0]))
    if text:
        block += literal("grpc-message", quote(text, safe=PLAIN))
    for name, value in trailing:
        block += literal(name, value if isinstance(value, str) else b64encode(value).rstrip(b"=").decode())
    return frame(HEADERS, END_HEADERS | END_STREAM, number, block)


def http_end_of(number: int, status: str) -> bytes:
    """Return the frame that answers what is no gRPC."""
    return frame(HEADERS, END_HEADERS | END_STREAM, number, literal(":status", status))


def compression_text(encoding: str) -> str:
    """Return what a caller is told that compresses."""
    return f"compression '{encoding[:MAX_NAME]}' is not supported; send messages without (grpc-encoding: identity)"
