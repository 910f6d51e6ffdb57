"""What a server's reply means: header blocks read, HTTP's and gRPC's statuses put into one code (gRPC over HTTP/2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

from grpc import StatusCode

from servepath.http2.frames import CANCEL, ENHANCE_YOUR_CALM, MESSAGE_HEAD, MESSAGE_HEAD_BYTES, REFUSED_STREAM
from servepath.http2.header_decoder import Pairs
from servepath.protocols.status import DETAILS_KEY, PUSHBACK_KEY

# gRPC's own table of what an HTTP/2 error on a stream means; everything else is INTERNAL.
RESET_CODES: Mapping[int, StatusCode] = MappingProxyType(
    {
        REFUSED_STREAM: StatusCode.UNAVAILABLE,
        CANCEL: StatusCode.CANCELLED,
        ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    },
)
# And of what an HTTP status without a grpc-status means; everything else is UNKNOWN.
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
CODES: Mapping[str, StatusCode] = MappingProxyType({str(code.value[0]): code for code in StatusCode})
# Metadata of gRPC's own that say more of an error than its code.
OF_GRPC = (DETAILS_KEY, PUSHBACK_KEY)

Metadata = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """How a call ended.

    payload: the message's bytes when code is OK. trailing: the server's own trailing metadata, and what is in OF_GRPC;
    values of -bin keys are base64, as they came. not_processed: the call has not been looked at by the server.
    """

    code: StatusCode
    details: str = ""
    payload: bytes = b""
    trailing: Metadata = ()
    not_processed: bool = False


@dataclass(frozen=True, slots=True)  # read for each call: see RequestHeaders
class Headers:
    """What one header block says.

    http: ":status". code: None where there is no grpc-status. informational: the final headers are still to come (1xx).
    """

    http: str = ""
    code: StatusCode | None = None
    details: str = ""
    trailing: Metadata = ()
    informational: bool = False


NO_HEADERS = Headers()


def headers_of(pairs: Pairs) -> Headers:
    """Return the headers of a call from a header block's names and values."""
    found = dict(pairs)
    status = found.get("grpc-status")
    code = None if status is None else CODES.get(status, StatusCode.UNKNOWN)
    trailing = tuple(pair for pair in pairs if not pair[0].startswith((":", "grpc-")) or pair[0] in OF_GRPC)
    http = found.get(":status", "")
    return Headers(http, code, unquote(found.get("grpc-message", "")), trailing, http.startswith("1"))


def reply_of(head: Headers, trailers: Headers, body: bytes | bytearray) -> Reply:
    """Return the reply that a finished stream holds. `trailers` are `head` where the server sent one block only."""
    code = trailers.code
    if code is None:
        text = f"HTTP status {head.http} without a gRPC status"
        return Reply(HTTP_CODES.get(head.http, StatusCode.UNKNOWN), text, trailing=trailers.trailing)
    if code is not StatusCode.OK:
        return Reply(code, trailers.details, trailing=trailers.trailing)
    size = MESSAGE_HEAD_BYTES
    if len(body) < size or MESSAGE_HEAD.unpack_from(body) != (0, len(body) - size):
        return Reply(StatusCode.INTERNAL, "the reply is not one uncompressed message")
    return Reply(code, trailers.details, bytes(body[size:]), trailers.trailing)
