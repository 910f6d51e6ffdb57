from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from servepath.protocols import errors
from servepath.protocols.status import (
    CODES,
    DETAILS_KEY,
    PUSHBACK_KEY,
    TEXT_LIMIT,
    code_of,
    details_of,
    pushback_of,
    reason_of,
    text_of,
)


def subclasses(base: type) -> Iterator[type]:
    for one in base.__subclasses__():
        yield one
        yield from subclasses(one)


def details(error: errors.ServeError) -> tuple[str, int | None]:
    found = dict(details_of(error))
    payload = found[DETAILS_KEY]
    assert isinstance(payload, bytes)
    info, retry = ErrorInfo(), RetryInfo()
    packed = Status.FromString(payload).details
    assert packed[0].Unpack(info)
    retries = [hint for hint in packed[1:] if hint.Unpack(retry)]
    delay_ms = retry.retry_delay.ToMilliseconds() if retries else None
    assert found.get(PUSHBACK_KEY) == ("-1" if delay_ms is None else str(delay_ms) if delay_ms else None)
    return info.reason, delay_ms


def test_every_error_has_a_code_and_none_is_unknown() -> None:
    assert set(subclasses(errors.ServeError)) == set(CODES)
    assert StatusCode.UNKNOWN not in CODES.values()


@pytest.mark.parametrize(
    ("error", "code", "reason", "retry_ms"),
    [
        (errors.BadInput("", "SHAPE"), StatusCode.INVALID_ARGUMENT, "BAD_INPUT.SHAPE", None),
        (errors.ModelNotFound(""), StatusCode.NOT_FOUND, "MODEL_UNKNOWN", None),
        (errors.ModelLoading(""), StatusCode.UNAVAILABLE, "MODEL_LOADING", 1000),
        (errors.Overloaded("", retry_after_ms=250), StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 250),
        (
            errors.DeadlineExceeded(errors.DeadlineStage.IN_QUEUE),
            StatusCode.DEADLINE_EXCEEDED,
            "EXPIRED_IN_QUEUE",
            None,
        ),
        (errors.Draining(), StatusCode.UNAVAILABLE, "DRAINING", 0),
        (errors.Internal(), StatusCode.INTERNAL, "INTERNAL", None),
    ],
)
def test_an_error_carries_code_reason_and_retry_hint(
    error: errors.ServeError, code: StatusCode, reason: str, retry_ms: int | None
) -> None:
    assert code_of(error) is code
    assert details(error) == (reason, retry_ms)


def test_callers_refused_together_are_not_asked_to_come_back_together() -> None:
    hints = [errors.Overloaded("").retry_after_ms for _ in range(100)]
    assert all(hint is not None and 100 <= hint <= 1000 for hint in hints)
    assert len(set(hints)) > 10


def test_control_characters_of_a_caller_are_escaped() -> None:
    assert text_of(errors.ServeError("a\r\nb\x1b[31m\u202e")) == r"a\r\nb\x1b[31m\u202e"


@pytest.mark.parametrize(("length", "kept"), [(TEXT_LIMIT, TEXT_LIMIT), (TEXT_LIMIT + 1, TEXT_LIMIT), (10**6, 1024)])
def test_a_text_is_limited(length: int, kept: int) -> None:
    assert len(text_of(errors.ServeError("x" * length))) == kept


@pytest.mark.parametrize("character", ["\u6f22", "\U0001f600", "%", "\0", "\u202e", "x"])
def test_text_and_details_fit_into_a_header_block_of_8_kib_whatever_a_caller_writes(character: str) -> None:
    error = errors.BadInput(character * 10**5, "INPUTS")
    message = quote(text_of(error), safe=" ")  # what grpc-message is at most
    assert len(message) + len(b64encode(details_of(error)[0][1])) < 8 * 2**10 - 512


@pytest.mark.parametrize(
    ("value", "pushback"),
    [
        ("0", 0),
        ("250", 250),
        ("2147483647", 2**31 - 1),
        ("2147483648", -1),
        ("-1", -1),
        ("", -1),
        ("soon", -1),
        ("1.5", -1),
    ],
)
def test_what_is_no_number_of_milliseconds_asks_for_no_other_try(value: str, pushback: int) -> None:
    assert pushback_of([("other", "5"), (PUSHBACK_KEY, value)]) == pushback


def test_a_server_may_say_nothing_of_another_try() -> None:
    assert pushback_of([("other", "5")]) is None


def test_a_servers_reason_is_read_back_with_and_without_padding_and_nothing_is_made_of_other_text() -> None:
    payload = dict(details_of(errors.Draining()))[DETAILS_KEY]
    assert isinstance(payload, bytes)
    sent = b64encode(payload).decode()
    for text, reason in (
        (sent, "DRAINING"),
        (sent.rstrip("="), "DRAINING"),
        ("", ""),
        ("x", ""),
        ("\xff", ""),
        ("AAAA", ""),
    ):
        assert reason_of((("a", "b"), (DETAILS_KEY, text))) == reason
    assert reason_of(()) == ""
