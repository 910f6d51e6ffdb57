"""The one error of the client, and how it is told from what gRPC reports."""

from collections.abc import Iterable
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

DETAILS_KEY = "grpc-status-details-bin"


class PredictError(Exception):
    """A call without an answer; its text names what was asked, the address and, where there is one, the fix.

    code: the gRPC status code. reason: google.rpc.ErrorInfo.reason, such as BAD_INPUT.SHAPE; empty when the gateway was
    not reached. retry_after_ms: when to try again; None means that the same call will fail again, or nobody knows.
    """

    def __init__(self, text: str, code: StatusCode, reason: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.retry_after_ms = retry_after_ms


class Failure(Protocol):
    """What grpc and grpc.aio raise for a failed call."""

    def code(self) -> StatusCode:
        """Return the status code."""

    def details(self) -> str | None:
        """Return the status text."""

    def trailing_metadata(self) -> Iterable[Any] | None:
        """Return pairs of key and value."""


def translate(failure: Failure, what: str, address: str, timeout_s: float) -> PredictError:
    """Return the error for a failed gRPC call. `what`: the model or method that was asked for."""
    code, details = failure.code(), failure.details() or ""
    reason, retry_after_ms = _read_details(failure.trailing_metadata() or ())
    if reason:
        return PredictError(f"{what} at {address}: {details} ({code.name}, {reason})", code, reason, retry_after_ms)
    return PredictError(_unreached(code, details, what, address, timeout_s), code)


def _unreached(code: StatusCode, details: str, what: str, address: str, timeout_s: float) -> str:
    """Return the text for a call that no ServePath gateway answered."""
    if code is StatusCode.DEADLINE_EXCEEDED:
        return f"{what}: no answer from {address} within {timeout_s:g} s; give more time or see: make status"
    if code is StatusCode.UNAVAILABLE:
        return f"{what}: {_unavailable(details, address)}"
    if code is StatusCode.UNIMPLEMENTED:
        return f"{what}: the server on {address} is not a ServePath gateway; correct the address"
    return f"{what} at {address}: {details} ({code.name})"


def _unavailable(details: str, address: str) -> str:
    if "DNS" in details:
        return f"no host has the name in {address}; correct the address"
    if "HTTP/2" in details:
        return f"something answers on {address}, but no gRPC server; correct the address"
    if "refused" in details or "failed to connect" in details:
        return f"nothing listens on {address}; run: make up"
    return f"lost the connection to {address}; see: make status"


def _read_details(metadata: Iterable[tuple[str, Any]]) -> tuple[str, int | None]:
    """Return reason and retry hint from an error's trailing metadata; ("", None) when it has none of ours."""
    info, retry = ErrorInfo(), RetryInfo()
    retry_after_ms = None
    try:
        for detail in Status.FromString(dict(metadata).get(DETAILS_KEY, b"")).details:
            detail.Unpack(info)
            if detail.Unpack(retry):
                retry_after_ms = retry.retry_delay.ToMilliseconds()
    except DecodeError:
        return "", None
    return info.reason, retry_after_ms
