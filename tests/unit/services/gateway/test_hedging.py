"""A second try on another replica: when it is made and when not, and how the two tries end as one call."""

from collections.abc import Callable
from random import Random
from time import monotonic
from typing import Any

import pytest

from servepath.protocols.deployments import PathLimits
from servepath.protocols.errors import (
    BackendBadReply,
    BackendUnavailable,
    BadInput,
    Cancelled,
    DeadlineExceeded,
    Overloaded,
    ServeError,
    TooLarge,
)
from servepath.protocols.types import Request
from services.dataplane.backend import Call, Outcome
from services.gateway.ejection import Health
from services.gateway.hedging import MAX_SAVED, HedgingReplicas, RunningP95
from services.gateway.replicas import Member
from tests.serving_fakes import ANSWER, SERVED

MS = 1_000_000
LIMITS = PathLimits(max_in_flight=2, hedge_percent=5)
DOWN, BROKEN = BackendUnavailable("down"), BackendBadReply("broken")
OTHER_ANSWER = ANSWER._replace(served=SERVED._replace(engine="other"))


class Clock:
    """Time that passes when the test says so, and the timers in it."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._timers: list[tuple[int, Callable[[], None]]] = []

    def __call__(self) -> int:
        return self.now_ns

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self._timers.append((self.now_ns + round(seconds * 1e9), function))

    @property
    def timers(self) -> int:
        return len(self._timers)

    def wait(self, ms: int) -> None:
        for _ in range(ms):
            self.now_ns += MS
            due = [timer for timer in self._timers if timer[0] <= self.now_ns]
            self._timers = [timer for timer in self._timers if timer[0] > self.now_ns]
            for _, function in due:
                function()


class Server:
    """What a set needs of a Replica."""

    model, stack = "m", "a"

    def __init__(self) -> None:
        self.health = Health()
        self.ready_now = True


class Queue:
    """What a set needs of a Batcher: keeps its calls, or ends them at once where `outcome` is one."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.calls: list[Call] = []
        self.in_flight = self.queued = 0

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        if self.outcome is not None:
            call.end(self.outcome)


class Hedged:
    """A set of replicas with its queues, its clock and what it counted."""

    def __init__(self, replicas: int = 2, limits: PathLimits = LIMITS) -> None:
        self.clock, self.hedges, self.wins = Clock(), 0, 0
        self.queues = [Queue() for _ in range(replicas)]
        nothing: Any = None
        servers: list[Any] = [Server() for _ in self.queues]
        queues: list[Any] = list(self.queues)
        members = [Member(server, queue, nothing, nothing) for server, queue in zip(servers, queues, strict=True)]
        draw = Random(0).random  # noqa: S311 - calls, not secrets
        self.set = HedgingReplicas(members, limits, draw, clock=self.clock, later=self.clock.later)
        self.set.on_hedge, self.set.on_win = self._count_hedge, self._count_win

    def _count_hedge(self) -> None:
        self.hedges += 1

    def _count_win(self) -> None:
        self.wins += 1

    def earn(self, calls: int = 20) -> None:
        """Have calls answered at once."""
        for queue in self.queues:
            queue.outcome = ANSWER
        for _ in range(calls):
            self.ask()
        for queue in self.queues:
            queue.outcome = None
            queue.calls.clear()

    def ask(self, first: int | None = None) -> Call:
        """Submit a call, to a certain replica first if there is one."""
        for number, queue in enumerate(self.queues):
            queue.in_flight = int(first is not None and number != first)
        call = Call(Request("m", 0, ()), monotonic() + 60)
        call.rows = 3
        self.set.submit(call)
        for queue in self.queues:
            queue.in_flight = 0
        return call

    def slow(self) -> tuple[Call, Call, Call]:
        """Return a call that the first replica keeps, its try there, and its second try at the other."""
        self.earn()
        call = self.ask(first=0)
        self.clock.wait(3)
        (one,), (other,) = (queue.calls for queue in self.queues[:2])
        return call, one, other


def test_a_slow_call_is_asked_of_another_replica_whose_answer_is_the_callers() -> None:
    hedged = Hedged()
    call, one, other = hedged.slow()
    assert one is call
    assert (other.request, other.rows, other.deadline) == (call.request, call.rows, call.deadline)
    other.end(OTHER_ANSWER)
    assert call.outcome is OTHER_ANSWER  # with it the first try has ended: it is this call
    assert (hedged.hedges, hedged.wins) == (1, 1)


def test_the_first_answer_wins_and_cancels_the_second_try() -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    call.end(ANSWER)
    assert call.outcome is ANSWER
    assert isinstance(other.outcome, Cancelled)
    assert (hedged.hedges, hedged.wins) == (1, 0)


@pytest.mark.parametrize("end", [Call.cancel, Call.expire])
def test_a_callers_cancellation_and_a_deadline_end_both_tries(end: Callable[[Call], None]) -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    end(call)
    assert isinstance(call.outcome, Cancelled | DeadlineExceeded)
    assert isinstance(other.outcome, Cancelled)
    hedged.clock.wait(100)
    assert hedged.hedges == 1
    assert hedged.clock.timers == 0


@pytest.mark.parametrize("error", [DOWN, BROKEN])
def test_an_error_of_the_first_try_leaves_the_call_to_the_second(error: ServeError) -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    call.end(error)
    assert call.outcome is None
    other.end(OTHER_ANSWER)
    assert call.outcome is OTHER_ANSWER


@pytest.mark.parametrize("error", [BadInput(""), TooLarge(""), Overloaded("")])
def test_what_another_replica_would_do_no_better_ends_both_tries(error: ServeError) -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    call.end(error)
    assert call.outcome is error
    assert isinstance(other.outcome, Cancelled)


def test_nobody_is_looked_at_while_a_call_waits_at_some_replica() -> None:
    hedged = Hedged()
    hedged.earn()
    for _ in range(100):
        hedged.ask(first=0)
    hedged.queues[0].queued = 1
    before = dict(hedged.set._waiting)
    hedged.clock.wait(50)
    assert hedged.set._waiting == before  # not one was taken out and put back
    assert hedged.clock.timers == 1


@pytest.mark.parametrize("end", [Call.cancel, Call.expire])
def test_a_call_left_to_its_second_try_still_ends_by_its_caller(end: Callable[[Call], None]) -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    call.end(BROKEN)
    end(call)
    assert isinstance(call.outcome, Cancelled | DeadlineExceeded)
    assert isinstance(other.outcome, Cancelled)


def test_an_error_of_the_second_try_leaves_the_call_to_the_first() -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    other.end(BROKEN)
    assert call.outcome is None
    call.end(ANSWER)
    assert call.outcome is ANSWER


def test_where_both_tries_fail_the_call_does() -> None:
    hedged = Hedged()
    call, _, other = hedged.slow()
    call.end(DOWN)
    other.end(BROKEN)
    assert call.outcome is BROKEN
    assert [len(queue.calls) for queue in hedged.queues] == [1, 1]


def test_two_replicas_at_most_have_a_call_at_once_and_a_third_gets_it_when_both_are_gone() -> None:
    hedged = Hedged(replicas=3)
    hedged.earn(200)
    call = hedged.ask(first=0)
    hedged.clock.wait(50)
    tried = [queue for queue in hedged.queues if queue.calls]
    assert len(tried) == 2
    call.end(DOWN)
    assert [queue for queue in hedged.queues if queue.calls] == tried
    (third,) = (queue for queue in hedged.queues if not queue.calls)
    (second,) = (one for queue in tried for one in queue.calls if one is not call)
    third.outcome = ANSWER
    second.end(DOWN)
    assert call.outcome is ANSWER
    assert [len(queue.calls) for queue in hedged.queues] == [1, 1, 1]


def test_a_call_that_is_tried_again_since_its_replica_is_gone_is_watched_there() -> None:
    hedged = Hedged(replicas=3)
    hedged.earn(200)
    call = hedged.ask()
    call.end(DOWN)
    hedged.clock.wait(3)
    assert [len(queue.calls) for queue in hedged.queues] == [1, 1, 1]
    (second,) = (one for queue in hedged.queues for one in queue.calls if one is not call)
    second.end(OTHER_ANSWER)
    assert call.outcome is OTHER_ANSWER


def test_a_call_within_the_time_of_nearly_all_others_is_asked_once() -> None:
    hedged = Hedged()
    for _ in range(1000):
        call = hedged.ask()
        hedged.clock.wait(20)
        call.end(ANSWER)
    hedged.hedges = 0
    for _ in range(100):
        call = hedged.ask()
        hedged.clock.wait(10)
        call.end(ANSWER)
    assert hedged.hedges == 0


@pytest.mark.parametrize("percent", [1, 5])
def test_the_second_tries_are_a_share_of_the_calls_from_the_start_even_where_all_are_slow(percent: int) -> None:
    hedged = Hedged(limits=PathLimits(max_in_flight=2, hedge_percent=percent))
    for number in range(1, 401):
        call = hedged.ask(first=0)
        hedged.clock.wait(10 + number)  # slower than those before
        assert hedged.hedges <= percent * number / 100
        call.end(ANSWER)
    assert hedged.hedges >= 4 * percent - 1


def test_what_is_saved_for_second_tries_is_bounded() -> None:
    hedged = Hedged()
    hedged.earn(100_000)
    calls = [hedged.ask() for _ in range(2 * MAX_SAVED)]
    hedged.clock.wait(100)
    assert hedged.hedges == MAX_SAVED
    assert not any(call.outcome for call in calls)


@pytest.mark.parametrize("queued", [0, 1])
def test_nothing_is_asked_twice_while_a_call_waits_at_some_replica_but_later_it_is(queued: int) -> None:
    hedged = Hedged()
    hedged.earn()
    hedged.ask(first=0)
    hedged.queues[queued].queued = 1
    hedged.clock.wait(100)
    assert hedged.hedges == 0
    hedged.queues[queued].queued = 0
    hedged.clock.wait(3)
    assert hedged.hedges == 1


def test_a_replica_at_its_limit_gets_no_second_try() -> None:
    hedged = Hedged()
    hedged.earn()
    hedged.ask(first=0)
    hedged.queues[1].in_flight = LIMITS.max_in_flight
    hedged.clock.wait(100)
    assert hedged.hedges == 0


def test_a_replica_that_is_not_usable_gets_no_second_try() -> None:
    hedged = Hedged()
    hedged.earn()
    hedged.ask(first=0)
    hedged.set.members[1].replica.ready_now = False
    hedged.set.refresh()
    hedged.clock.wait(100)
    assert hedged.hedges == 0


def test_calls_share_one_timer_and_none_runs_without_calls() -> None:
    hedged = Hedged()
    calls = [hedged.ask() for _ in range(10)]
    assert hedged.clock.timers == 1
    for call in calls:
        call.end(ANSWER)
    hedged.clock.wait(3)
    assert hedged.clock.timers == 0


def test_the_running_percentile_is_that_of_recent_calls() -> None:
    random, p95 = Random(1), RunningP95()  # noqa: S311 - durations, not secrets
    for scale in (1_000_000, 50_000_000, 200_000):
        above = 0
        for number in range(20_000):
            duration = round(random.expovariate(1) * scale)
            above += number >= 10_000 and duration > p95.value
            p95.record(duration)
        assert 400 <= above <= 600, scale
