from typing import Any, NoReturn

import grpc
import pytest

from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc.refusal import Refusal
from services.tf_svc.server import unary

TRAILING = (("x-servepath-engine", "embedded"),)


class Aborted(Exception):
    pass


class Context:
    """What a handler uses of grpc.ServicerContext."""

    def __init__(self, remaining_s: float | None = None, *, active: bool = True) -> None:
        self._remaining_s = remaining_s
        self._active = active
        self.trailing: tuple[tuple[str, str], ...] = ()
        self.aborted: tuple[grpc.StatusCode, str] | None = None

    def is_active(self) -> bool:
        return self._active

    def time_remaining(self) -> float | None:
        return self._remaining_s

    def set_trailing_metadata(self, trailing: tuple[tuple[str, str], ...]) -> None:
        self.trailing = trailing

    def abort(self, code: grpc.StatusCode, text: str) -> NoReturn:
        self.aborted = (code, text)
        raise Aborted


class Answer:
    """Counts its calls; answers an empty reply or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self._error = error

    def __call__(self, _request: Any) -> pb.PredictResponse:
        self.calls += 1
        if self._error:
            raise self._error
        return pb.PredictResponse()


def aborted(answer: Answer, context: Context, payload: bytes = b"") -> tuple[grpc.StatusCode, str]:
    with pytest.raises(Aborted):
        unary(pb.PredictRequest, answer, TRAILING).unary_unary(payload, context)
    assert context.trailing == TRAILING
    assert context.aborted
    return context.aborted


@pytest.mark.parametrize("context", [Context(0), Context(5, active=False)])
def test_a_call_that_expired_while_it_waited_is_not_computed(context: Context) -> None:
    answer = Answer()
    assert aborted(answer, context)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert answer.calls == 0


@pytest.mark.parametrize("context", [Context(), Context(0.5)])
def test_a_call_with_time_left_or_without_a_deadline_is_computed(context: Context) -> None:
    assert unary(pb.PredictRequest, Answer(), TRAILING).unary_unary(b"", context) == b""
    assert (context.aborted, context.trailing) == (None, TRAILING)


def test_a_refusal_goes_to_the_caller_as_it_is() -> None:
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)")
    assert aborted(Answer(refusal), Context()) == (refusal.code, refusal.text)


def test_a_fault_of_our_own_is_logged_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    code, text = aborted(Answer(OSError("/etc/secret")), Context())
    assert (code, "secret" in text) == (grpc.StatusCode.INTERNAL, False)
    assert "/etc/secret" in caplog.text


def test_bytes_that_are_no_message_end_as_in_the_real_server() -> None:
    found = aborted(Answer(), Context(), b"\xff")
    assert found == (grpc.StatusCode.INTERNAL, "the message is not a tensorflow.serving.PredictRequest")


def test_a_long_text_is_cut_as_the_real_server_cuts_it() -> None:
    assert Refusal(grpc.StatusCode.NOT_FOUND, "x" * 1025).text == "x" * 1024 + "...TRUNCATED"
