from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from servepath.client.errors import DETAILS_KEY, translate
from servepath.protocols import errors
from servepath.protocols.status import details_of


@dataclass
class Failure:
    status: StatusCode
    text: str
    metadata: tuple[tuple[str, Any], ...] = ()

    def code(self) -> StatusCode:
        return self.status

    def details(self) -> str:
        return self.text

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self.metadata


def test_a_refusal_keeps_the_gateways_text_reason_and_hint() -> None:
    refusal = errors.Overloaded("64 requests in flight", retry_after_ms=250)
    failure = Failure(StatusCode.RESOURCE_EXHAUSTED, refusal.text, (("other", "x"), *details_of(refusal)))

    error = translate(failure, "line@onnx", "host:1", 5.0)

    assert str(error) == "line@onnx at host:1: 64 requests in flight (RESOURCE_EXHAUSTED, OVERLOADED)"
    assert (error.code, error.reason, error.retry_after_ms) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 250)


def test_a_refusal_for_good_has_no_retry_hint() -> None:
    refusal = errors.BadInput("input 'x': too short", "BYTES")

    error = translate(Failure(StatusCode.INVALID_ARGUMENT, refusal.text, details_of(refusal)), "m", "host:1", 5.0)

    assert (error.reason, error.retry_after_ms) == ("BAD_INPUT.BYTES", None)


@pytest.mark.parametrize(
    ("code", "details", "text"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; Connection refused",
            "m: nothing listens on host:1; run: make up",
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame)",
            "m: something answers on host:1, but no gRPC server; correct the address",
        ),
        ("UNAVAILABLE", "DNS resolution failed for host:1", "m: no host has the name in host:1; correct the address"),
        ("UNAVAILABLE", "Socket closed", "m: lost the connection to host:1; see: make status"),
        ("DEADLINE_EXCEEDED", "", "m: no answer from host:1 within 2.5 s; give more time or see: make status"),
        ("UNIMPLEMENTED", "", "m: the server on host:1 is not a ServePath gateway; correct the address"),
        ("INTERNAL", "odd", "m at host:1: odd (INTERNAL)"),
    ],
)
def test_a_call_that_reached_no_gateway_says_so_with_the_fix(code: str, details: str, text: str) -> None:
    error = translate(Failure(grpc.StatusCode[code], details), "m", "host:1", 2.5)

    assert (str(error), error.reason) == (text, "")


def test_details_that_cannot_be_read_are_none() -> None:
    error = translate(Failure(StatusCode.INTERNAL, "odd", ((DETAILS_KEY, b"\xff"),)), "m", "host:1", 5.0)

    assert (str(error), error.reason, error.retry_after_ms) == ("m at host:1: odd (INTERNAL)", "", None)
