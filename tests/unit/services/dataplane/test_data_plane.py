import asyncio
import logging
from collections.abc import Callable
from time import monotonic

import pytest

from servepath.protocols import oip
from servepath.protocols.errors import (
    BackendUnavailable,
    BadInput,
    Cancelled,
    DeadlineExceeded,
    Draining,
    Internal,
    Overloaded,
)
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.oip.oip_pb2 import ModelInferRequest
from services.dataplane import data_plane
from services.dataplane.backend import Call, Outcome
from services.dataplane.batch_scope import BatchScope
from services.dataplane.data_plane import MAX_LINGER_S, QUIET_S, DataPlane
from tests.limits import LONG_S
from tests.serving_fakes import ANSWER, Keeping, Raw, X

PAYLOAD = oip.encode_request(Request("m", 0, (X,)), "m", 0)


class Seen:
    """A `on_complete` that keeps what it saw."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Call | None, Outcome]] = []

    def __call__(self, call: Call | None, outcome: Outcome) -> Outcome:
        self.outcomes.append((call, outcome))
        return outcome


def plane(inner: Keeping, on_complete: Callable[[Call | None, Outcome], Outcome] | None = None) -> DataPlane:
    return DataPlane(inner, {oip.METHOD: oip}, on_complete or Seen())


async def test_an_answer_is_encoded_for_its_own_call() -> None:
    inner, seen = Keeping(), Seen()
    raws = [Raw(PAYLOAD), Raw(PAYLOAD)]
    plane(inner, seen).dispatch(list(raws))
    inner.calls[1].end(ANSWER)
    assert (raws[0].replies, len(raws[1].replies)) == ([], 1)
    assert oip.decode_answer(raws[1].replies[0], "m", "onnx") == ANSWER
    assert seen.outcomes == [(inner.calls[1], ANSWER)]
    inner.calls[0].end(ANSWER)


def with_timeout(microseconds: int) -> bytes:
    message = ModelInferRequest.FromString(PAYLOAD)
    message.parameters["timeout"].int64_param = microseconds
    return message.SerializeToString()


async def test_a_timeout_in_the_request_ends_the_call_before_its_own_deadline() -> None:
    inner, raw = Keeping(), Raw(with_timeout(20_000))
    plane(inner).dispatch([raw])
    assert inner.calls[0].deadline <= monotonic() + 0.02
    await asyncio.wait_for(raw.failed.wait(), LONG_S)
    assert isinstance(raw.errors[0], DeadlineExceeded)


@pytest.mark.parametrize("microseconds", [0, 3600 * 10**6])
async def test_a_timeout_in_the_request_makes_no_deadline_later(microseconds: int) -> None:
    inner, raw = Keeping(), Raw(with_timeout(microseconds))
    plane(inner).dispatch([raw])
    assert inner.calls[0].deadline == raw.deadline
    inner.calls[0].end(ANSWER)


@pytest.mark.parametrize("calls", [1, 3])
async def test_a_list_of_calls_is_a_burst_and_a_single_call_is_none(calls: int) -> None:
    inner, batch_scope, seen = Keeping(), BatchScope(), list[tuple[int, bool]]()
    raws = [Raw(PAYLOAD) for _ in range(calls)]
    keep = inner.submit

    def submit(call: Call) -> None:
        keep(call)
        seen.append((len(inner.calls), batch_scope.open))
        batch_scope.on_exit(lambda: seen.append((len(inner.calls), batch_scope.open)))

    inner.submit = submit  # type: ignore[method-assign]
    DataPlane(inner, {oip.METHOD: oip}, Seen(), batch_scope).dispatch(list(raws))
    submitted = [(n + 1, calls > 1) for n in range(calls)]
    assert seen == submitted + [(calls, False)] * (calls if calls > 1 else 0)
    for call in inner.calls:
        call.end(ANSWER)


async def test_finish_may_change_what_is_sent() -> None:
    inner, raw = Keeping(), Raw(PAYLOAD)
    slower = Answer(ANSWER.outputs, ANSWER.served._replace(gateway_us=1, backend_us=2))
    plane(inner, lambda _call, _outcome: slower).dispatch([raw])
    inner.calls[0].end(ANSWER)
    assert oip.decode_answer(raw.replies[0], "m", "onnx").served.backend_us == 2


async def test_a_request_that_cannot_be_read_is_refused_and_counted() -> None:
    inner, seen, raw = Keeping(), Seen(), Raw(b"\xff")
    plane(inner, seen).dispatch([raw])
    assert inner.calls == []
    assert isinstance(raw.errors[0], BadInput)
    assert seen.outcomes == [(None, raw.errors[0])]


LARGE = oip.encode_request(Request("m", 0, (Tensor("x", "FP32", (1, 250), bytes(1000)),)), "m", 0)


async def test_large_requests_beyond_the_bytes_in_flight_are_refused_and_small_ones_still_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data_plane, "MAX_BYTES", -(-2 * len(LARGE) * 4 // 3))
    monkeypatch.setattr(data_plane, "SMALL_BYTES", len(PAYLOAD))
    inner, served_small = Keeping(), Raw(PAYLOAD)
    served = plane(inner)
    first, second, third = Raw(LARGE), Raw(LARGE), Raw(LARGE)
    served.dispatch([first, second, third, served_small])
    assert [type(error) for error in third.errors] == [Overloaded]
    assert len(inner.calls) == 3
    inner.calls[2].end(ANSWER)
    assert len(served_small.replies) == 1
    first.cancel()
    served.dispatch([again := Raw(LARGE)])
    assert (again.errors, len(inner.calls)) == ([], 4)
    for call in inner.calls:
        call.end(ANSWER)


async def test_a_request_above_the_bytes_in_flight_is_taken_while_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_plane, "MAX_BYTES", 10)
    inner = Keeping()
    served = plane(inner)
    for _ in range(2):
        served.dispatch([raw := Raw(PAYLOAD)])
        inner.calls[-1].end(ANSWER)
        assert (len(raw.replies), raw.errors) == (1, [])


async def test_a_message_that_has_been_read_is_not_kept() -> None:
    inner, raw = Keeping(), Raw(PAYLOAD)
    plane(inner).dispatch([raw])
    assert (raw.payload, inner.calls[0].request.inputs) == (b"", (X,))
    inner.calls[0].end(ANSWER)


async def test_a_call_that_arrives_expired_never_reaches_the_backend() -> None:
    inner, raw = Keeping(), Raw(PAYLOAD, remaining_s=-0.001)
    plane(inner).dispatch([raw])
    assert inner.calls == []
    assert raw.errors[0].reason == "EXPIRED_ON_ARRIVAL"


async def test_a_call_ends_at_its_deadline_and_a_later_answer_is_dropped() -> None:
    inner, raw = Keeping(), Raw(PAYLOAD, remaining_s=0.5)
    served = plane(inner)
    served.dispatch([raw])
    await raw.failed.wait()
    inner.calls[0].end(ANSWER)
    assert isinstance(raw.errors[0], DeadlineExceeded)
    assert (len(raw.errors), raw.replies, served.in_flight) == (1, [], 0)


async def test_a_caller_that_goes_away_cancels_its_call() -> None:
    inner, raw = Keeping(), Raw(PAYLOAD)
    plane(inner).dispatch([raw])
    raw.cancel()
    assert isinstance(inner.calls[0].outcome, Cancelled)


async def test_a_backend_that_raises_costs_an_internal_error_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner, raw = Keeping(), Raw(PAYLOAD)

    def fail(_: Call) -> None:
        raise RuntimeError("secret")

    inner.submit = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.CRITICAL):
        plane(inner).dispatch([raw])
    assert isinstance(raw.errors[0], Internal)
    assert "secret" not in raw.errors[0].text


async def test_an_answer_that_cannot_be_encoded_is_an_internal_error() -> None:
    inner, raw = Keeping(), Raw(PAYLOAD)
    plane(inner).dispatch([raw])
    inner.calls[0].end(Answer(ANSWER.outputs, ANSWER.served._replace(engine=None)))  # type: ignore[arg-type]
    assert isinstance(raw.errors[0], Internal)


async def test_draining_refuses_new_calls_and_waits_for_those_in_flight() -> None:
    inner, first, late = Keeping(), Raw(PAYLOAD), Raw(PAYLOAD)
    served = plane(inner)
    served.dispatch([first])
    draining = asyncio.create_task(served.drain(60))
    await asyncio.sleep(0)
    assert served.draining
    served.dispatch([late])
    assert isinstance(late.errors[0], Draining)
    assert not draining.done()
    inner.calls[0].end(ANSWER)
    await draining
    assert len(first.replies) == 1


async def test_draining_ends_after_its_time_and_says_what_it_left(caplog: pytest.LogCaptureFixture) -> None:
    inner = Keeping()
    served = plane(inner)
    served.dispatch([Raw(PAYLOAD)])
    await served.drain(0.01)
    assert "1 calls still in flight after 0.01 s of draining" in caplog.text
    inner.calls[0].end(ANSWER)


async def test_draining_lingers_until_a_quiet_moment_so_that_calls_already_read_are_told() -> None:
    served, ended_s = plane(Keeping()), asyncio.get_running_loop().create_future()
    draining = asyncio.create_task(served.drain(60))
    draining.add_done_callback(lambda _: ended_s.set_result(monotonic()))
    began_s = last_s = monotonic()
    late = [Raw(PAYLOAD) for _ in range(3)]
    for raw in late:
        await asyncio.sleep(QUIET_S / 2)
        if not draining.done():  # on a busy machine the moment may have been quiet
            last_s = monotonic()
        served.dispatch([raw])
    assert await ended_s >= min(last_s + QUIET_S, began_s + MAX_LINGER_S)
    assert all(isinstance(raw.errors[0], Draining) for raw in late)


async def test_callers_that_never_stop_do_not_hold_up_a_drain() -> None:
    served = plane(Keeping())
    draining = asyncio.create_task(served.drain(60))
    late = []
    while not draining.done():
        await asyncio.sleep(QUIET_S / 10)
        late.append(Raw(PAYLOAD))
        served.dispatch([late[-1]])
    await draining
    assert all(isinstance(raw.errors[0], Draining) for raw in late)


async def test_a_call_that_is_taken_back_ends_once_later_and_for_those_before() -> None:
    raw, inner = Raw(PAYLOAD), Keeping()
    plane(inner).dispatch([raw])
    (call,) = inner.calls
    ended: list[Outcome] = []

    def take_back(outcome: Outcome) -> None:
        ended.append(outcome)
        call.take_back()

    call.add_done_callback(take_back)
    call.end(BackendUnavailable("down"))
    assert (call.outcome, len(ended), raw.replies, raw.errors) == (None, 1, [], [])
    call.end(ANSWER)
    call.end(BackendUnavailable("late"))
    assert (len(ended), len(raw.replies), raw.errors) == (1, 1, [])


async def test_a_call_that_was_taken_back_still_ends_when_its_caller_goes_away() -> None:
    raw, inner = Raw(PAYLOAD), Keeping()
    served = plane(inner)
    served.dispatch([raw])
    (call,) = inner.calls
    call.add_done_callback(lambda _: call.take_back())
    call.end(BackendUnavailable("down"))
    raw.cancel()
    assert isinstance(raw.errors[0], Cancelled)
    assert served.in_flight == 0
