"""The one table from our errors to gRPC codes, and the trailing metadata that carries their reasons.

ErrorInfo and RetryInfo travel in grpc-status-details-bin (google.rpc.Status), which both listeners can send.
"""

from base64 import b64decode
from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from servepath.protocols import errors

CODES: dict[type[errors.ServeError], StatusCode] = {
    errors.BadInput: StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.ModelLoading: StatusCode.UNAVAILABLE,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.BackendUnavailable: StatusCode.UNAVAILABLE,
    errors.BatchSpoiled: StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: StatusCode.CANCELLED,
    errors.BackendBadReply: StatusCode.INTERNAL,
    errors.BackendMisconfigured: StatusCode.INTERNAL,
    errors.Draining: StatusCode.UNAVAILABLE,
    errors.Unsupported: StatusCode.UNIMPLEMENTED,
    errors.Internal: StatusCode.INTERNAL,
}
DOMAIN = "servepath"
DETAILS_KEY, PUSHBACK_KEY = "grpc-status-details-bin", "grpc-retry-pushback-ms"
MAX_PUSHBACK_MS = 2**31 - 1
# grpc-message and the details travel in one header block of at most 8 KiB by default.
TEXT_LIMIT = 1024


def code_of(error: errors.ServeError) -> StatusCode:
    """Return the gRPC code of an error."""
    return CODES[type(error)]


def text_of(error: errors.ServeError) -> str:
    """Return the text for the caller, with all but printable ASCII escaped and at most TEXT_LIMIT characters.

    grpc-message spells each byte beyond ASCII with three: the text would no longer fit into the header block.
    """
    plain = error.text.isascii() and error.text.isprintable()
    text = error.text if plain else error.text.encode("unicode_escape").decode()
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."


def details_of(error: errors.ServeError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carries the reason and the retry hint.

    The hint is in the details, and again as what gRPC's own retries go by (gRFC A6): -1 is not to retry. Where a call
    may come back at once they are told nothing, and take their own pauses: with a number, callers of grpcio 1.85.1 were
    seen to wait until their deadlines, or to use up all attempts on the one server that was shutting down.
    """
    status = Status(code=code_of(error).value[0], message=text_of(error))
    status.details.add().Pack(ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    found = (DETAILS_KEY, status.SerializeToString())
    pushback = -1 if error.retry_after_ms is None else error.retry_after_ms
    return (found, (PUSHBACK_KEY, str(pushback))) if pushback else (found,)


def reason_of(trailing: Iterable[tuple[str, str]]) -> str:
    """Return the reason in a server's trailing metadata, its -bin values in base64; "" where there is none to read."""
    text = next((value for key, value in trailing if key == DETAILS_KEY), "")
    info = ErrorInfo()
    try:
        details = Status.FromString(b64decode(text + "=" * (-len(text) % 4))).details
        return next((info.reason for detail in details if detail.Unpack(info)), "")
    except (ValueError, DecodeError):
        return ""


def pushback_of(trailing: Iterable[tuple[str, str]]) -> int | None:
    """Return the milliseconds after which a server wants to be asked again; None where it says nothing of that.

    Below 0: not to be asked again, also where it says what is no such number (gRFC A6).
    """
    text = next((value for key, value in trailing if key == PUSHBACK_KEY), None)
    if text is None:
        return None
    fits = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_PUSHBACK_MS))
    return found if fits and (found := int(text)) <= MAX_PUSHBACK_MS else -1
