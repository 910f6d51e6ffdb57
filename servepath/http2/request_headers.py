"""What a request's header block means for a call (gRPC over HTTP/2)."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from servepath.http2.fields import content_length, request_fault, trailers_fault
from servepath.http2.header_decoder import Pairs

# HTTP/2 counts so much for each entry of a header list (RFC 9113, 6.5.2).
ENTRY_BYTES = 32
# Longer timeouts are for ever: no library counts so far.
MAX_TIMEOUT_S = 1e9
UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
MAX_DIGITS = 8
# What says how the call is carried, and nothing about the call.
TRANSPORT = ("te", "content-type", "content-length", "host")
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)  # a field of a NamedTuple takes three times as long to read
class RequestHeaders:
    """One call's headers.

    http: the status that refuses what is no gRPC, or "". remaining_s: None without a deadline, at most MAX_TIMEOUT_S.
    encoding: the compression, "" for none. length: what content-length says, None where nothing does. size: in bytes,
    as HTTP/2 counts header lists. metadata: the caller's own, those of -bin keys as bytes. fault: what makes the block
    malformed as a request's first, or ""; trailers_fault: as its last. texts: the metadata that is text, the last
    value of a repeated key.
    """

    path: str
    http: str
    remaining_s: float | None
    encoding: str
    length: int | None
    size: int
    metadata: Metadata
    fault: str
    trailers_fault: str
    texts: Mapping[str, str]


def request_headers(pairs: Pairs) -> RequestHeaders:
    """Read a block's names and values; what cannot be read is left out."""
    found = dict(pairs)
    fault = request_fault(pairs)
    length = None
    try:
        length = content_length(pairs)
    except ValueError as error:
        fault = fault or str(error)
    encoding = found.get("grpc-encoding", "").lower()  # as HTTP has the names of codings (RFC 9110, 8.4.1)
    metadata = tuple(_entry(name, value) for name, value in pairs if _is_callers(name))
    return RequestHeaders(
        path=found.get(":path", ""),
        http=_refusal(found.get(":method", ""), found.get("content-type", "")),
        remaining_s=_seconds(found.get("grpc-timeout", "")),
        encoding="" if encoding == "identity" else encoding,
        length=length,
        size=sum(len(name) + len(value) + ENTRY_BYTES for name, value in pairs),
        metadata=metadata,
        fault=fault,
        trailers_fault=trailers_fault(pairs),
        texts={name: value for name, value in metadata if isinstance(value, str)},
    )


def _refusal(method: str, content_type: str) -> str:
    if method != "POST":
        return "405"
    return "" if content_type.startswith("application/grpc") else "415"


def _seconds(timeout: str) -> float | None:
    digits, unit = timeout[:-1], timeout[-1:]
    if unit not in UNITS_S or not (digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS):
        return None
    return min(int(digits) * UNITS_S[unit], MAX_TIMEOUT_S)


def _is_callers(name: str) -> bool:
    return not name.startswith((":", "grpc-")) and name not in TRANSPORT


def _entry(name: str, value: str) -> tuple[str, str | bytes]:
    if not name.endswith("-bin"):
        return name, value
    try:
        return name, b64decode(value + "=" * (-len(value) % 4), validate=True)
    except ValueError:  # what is not ASCII, too
        return name, b""
