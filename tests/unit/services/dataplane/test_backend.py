import pytest

from servepath.protocols.errors import Cancelled, DeadlineExceeded, DeadlineStage
from services.dataplane.backend import Outcome
from tests.serving_fakes import ANSWER, call


def test_only_the_first_outcome_counts() -> None:
    outcomes: list[Outcome] = []
    ended = call()
    ended.add_done_callback(outcomes.append)
    ended.end(ANSWER)
    ended.cancel()
    ended.expire()
    assert outcomes == [ANSWER]
    assert ended.outcome == ANSWER


def test_callbacks_unwind_from_the_last_added_to_the_first() -> None:
    order: list[str] = []
    ended = call()
    ended.add_done_callback(lambda _: order.append("plane"))
    ended.add_done_callback(lambda _: order.append("limit"))
    ended.end(ANSWER)
    assert order == ["limit", "plane"]


def test_a_cancelled_call_ends_with_cancelled() -> None:
    ended = call()
    ended.cancel()
    assert isinstance(ended.outcome, Cancelled)


def test_an_expired_call_says_where_its_deadline_struck() -> None:
    ended = call()
    ended.stage = DeadlineStage.IN_BACKEND
    ended.expire()
    assert isinstance(ended.outcome, DeadlineExceeded)
    assert ended.outcome.reason == "EXPIRED_IN_BACKEND"


def test_a_callback_that_raises_is_logged_and_keeps_no_other_from_being_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    order: list[str] = []
    ended = call()

    def raises(_: Outcome) -> None:
        raise LookupError("in a callback")

    ended.add_done_callback(lambda _: order.append("plane"))
    ended.add_done_callback(raises)
    ended.end(ANSWER)
    assert order == ["plane"]
    assert "in a callback" in caplog.text
