import asyncio
from time import monotonic

from servepath.protocols.errors import DeadlineExceeded
from servepath.protocols.types import Request
from services.dataplane.backend import Call
from services.dataplane.deadlines import Deadlines
from tests.limits import LONG_S


def make(remaining_s: float) -> Call:
    return Call(Request("m", 0, ()), monotonic() + remaining_s)


async def until_ended(call: Call) -> None:
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    async with asyncio.timeout(LONG_S):
        await ended.wait()


async def test_a_watched_call_expires_after_its_deadline_and_not_before() -> None:
    deadlines, call = Deadlines(), make(0.05)
    deadlines.watch(call)
    await until_ended(call)
    assert isinstance(call.outcome, DeadlineExceeded)
    assert monotonic() >= call.deadline


async def test_calls_expire_in_the_order_of_their_deadlines_whatever_the_order_they_came_in() -> None:
    deadlines, order = Deadlines(), []
    calls = [make(remaining_s) for remaining_s in (0.15, 0.03, 0.09)]
    for number, call in enumerate(calls):
        call.add_done_callback(lambda _, number=number: order.append(number))
        deadlines.watch(call)
    await until_ended(calls[0])
    assert order == [1, 2, 0]


async def test_a_forgotten_call_is_left_alone_and_the_others_of_its_tick_are_not() -> None:
    deadlines = Deadlines()
    first = make(0.05)
    second = Call(first.request, first.deadline)
    deadlines.watch(first)
    deadlines.watch(second)
    deadlines.forget(first)
    await until_ended(second)
    assert first.outcome is None


async def test_a_call_that_forgets_itself_or_another_while_it_expires_disturbs_nobody() -> None:
    deadlines = Deadlines()
    calls = [make(0.03)]
    calls += [Call(calls[0].request, calls[0].deadline) for _ in range(3)]
    for call in calls:
        call.add_done_callback(lambda _, call=call: deadlines.forget(call))
        deadlines.watch(call)
    await until_ended(calls[-1])
    assert all(isinstance(call.outcome, DeadlineExceeded) for call in calls)


async def test_it_goes_on_after_having_had_nothing_to_watch() -> None:
    deadlines = Deadlines()
    first = make(0.02)
    deadlines.watch(first)
    deadlines.forget(first)
    await asyncio.sleep(0.05)
    second = make(0.02)
    deadlines.watch(second)
    await until_ended(second)
    assert isinstance(second.outcome, DeadlineExceeded)
