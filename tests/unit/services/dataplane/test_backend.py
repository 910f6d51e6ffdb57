import pytest

from servepath.protocols.errors import BackendUnavailable, Cancelled, DeadlineExceeded, DeadlineStage, ServeError
from servepath.protocols.types import Request
from services.dataplane.backend import Call, Outcome
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


DOWN = BackendUnavailable("down")


class Elsewhere:
    """A guard that takes a failed call back and has it answered, where it does not raise."""

    def __init__(self, order: list[str], *, raises: bool = False) -> None:
        self.order = order
        self.raises = raises

    def on_error(self, call: Call, request: Request, error: ServeError) -> None:
        self.order.append("guard")
        if self.raises:
            raise LookupError("in a guard")
        assert (call.outcome, request) == (error, call.request)
        call.take_back()
        call.end(ANSWER)


def guarded(order: list[str], *, raises: bool = False) -> Call:
    one = call()
    one.add_done_callback(lambda outcome: order.append("plane" if outcome is ANSWER else "plane, failed"))
    one.guard(Elsewhere(order, raises=raises))
    one.add_done_callback(lambda _: order.append("replica"))
    return one


def test_a_guard_sees_an_error_between_the_callbacks_that_were_added_after_it_and_before() -> None:
    order: list[str] = []
    guarded(order).end(DOWN)
    assert order == ["replica", "guard", "plane"]


def test_a_guard_is_not_asked_where_a_call_is_answered() -> None:
    order: list[str] = []
    guarded(order).end(ANSWER)
    assert order == ["replica", "plane"]


def test_a_guard_waits_where_a_later_policy_takes_the_call_back() -> None:
    order: list[str] = []
    one = guarded(order)
    one.add_done_callback(lambda _: one.take_back())
    one.end(DOWN)
    assert order == []
    one.end(DOWN)
    assert order == ["replica", "guard", "plane"]


def test_a_guard_that_raises_lets_the_call_end(caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []
    guarded(order, raises=True).end(DOWN)
    assert order == ["replica", "guard", "plane, failed"]
    assert "in a guard" in caplog.text


@pytest.mark.parametrize("second", [ANSWER, DOWN], ids=["answered", "failed"])
def test_a_guard_is_asked_once_at_most_where_a_later_policy_tries_again_at_once(second: Outcome) -> None:
    order: list[str] = []
    one = guarded(order)

    def again(_: Outcome) -> None:
        one.take_back()
        one.end(second)

    one.add_done_callback(again)
    one.end(DOWN)
    assert order == ["replica", *(["guard"] if second is DOWN else []), "plane"]
