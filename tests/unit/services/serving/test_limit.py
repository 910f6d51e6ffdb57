import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.limit import Limit
from services.wire.errors import Overloaded
from tests.serving_fakes import ANSWER, Keeping, call


def test_calls_up_to_the_limit_go_on_and_the_next_ones_wait_in_order() -> None:
    inner = Keeping()
    limit = Limit(inner, max_in_flight=2, max_queue=2)
    calls = [call() for _ in range(4)]
    for one in calls:
        limit.submit(one)
    assert (inner.calls, limit.in_flight, limit.queued) == (calls[:2], 2, 2)
    calls[1].end(ANSWER)
    assert (inner.calls, limit.queued) == (calls[:3], 1)
    calls[0].end(ANSWER)
    assert (inner.calls, limit.queued) == (calls, 0)


def test_a_call_above_limit_and_queue_is_refused_at_once() -> None:
    limit = Limit(Keeping(), max_in_flight=1, max_queue=1)
    first, second, third = call(), call(), call()
    for one in (first, second, third):
        limit.submit(one)
    assert isinstance(third.outcome, Overloaded)
    assert third.outcome.text == "1 requests in flight and 1 waiting on this path"
    assert (first.outcome, second.outcome) == (None, None)


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_a_waiting_call_that_ends_leaves_the_queue_and_never_reaches_the_backend(how: str) -> None:
    inner = Keeping()
    limit = Limit(inner, max_in_flight=1, max_queue=1)
    first, gone, last = call(), call(), call()
    limit.submit(first)
    limit.submit(gone)
    getattr(gone, how)()
    limit.submit(last)
    first.end(ANSWER)
    assert inner.calls == [first, last]


def test_a_call_that_ends_while_it_is_submitted_frees_its_place() -> None:
    inner = Keeping()
    limit = Limit(inner, max_in_flight=1, max_queue=0)
    inner.submit = lambda one: one.end(ANSWER)  # type: ignore[method-assign]
    for _ in range(3):
        one = call()
        limit.submit(one)
        assert one.outcome == ANSWER
    assert limit.in_flight == 0


def test_a_full_queue_of_calls_that_end_at_once_empties() -> None:
    inner = Keeping()
    limit = Limit(inner, max_in_flight=1, max_queue=2000)
    calls = [call() for _ in range(2001)]
    for one in calls:
        limit.submit(one)
    inner.submit = lambda one: one.end(ANSWER)  # type: ignore[method-assign]
    calls[0].end(ANSWER)
    assert [one.outcome for one in calls] == [ANSWER] * 2001
    assert (limit.in_flight, limit.queued) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from(["submit", "answer", "cancel"]), st.integers(0, 9)), max_size=60))
def test_bounds_hold_and_every_call_ends_whatever_happens(steps: list[tuple[str, int]]) -> None:
    inner = Keeping()
    limit = Limit(inner, max_in_flight=2, max_queue=3)
    calls = []
    for step, number in steps:
        if step == "submit":
            calls.append(call())
            limit.submit(calls[-1])
        elif step == "answer" and inner.calls:
            inner.calls[number % len(inner.calls)].end(ANSWER)
        elif calls:
            calls[number % len(calls)].cancel()
        open_calls = [one for one in calls if one.outcome is None]
        assert limit.in_flight + limit.queued == len(open_calls)
        assert limit.in_flight <= 2
        assert limit.queued <= 3
    while any(one.outcome is None for one in calls):
        for one in inner.calls:
            one.end(ANSWER)
    assert (limit.in_flight, limit.queued) == (0, 0)


def test_readiness_and_closing_are_the_inner_backends() -> None:
    inner = Keeping()
    limit = Limit(inner, 1, 1)
    assert limit.ready()
    inner.is_ready = False
    assert not limit.ready()
    asyncio.run(limit.close())
    assert inner.closed
