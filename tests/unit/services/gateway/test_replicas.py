"""Which replica of a path gets a call, and what becomes of the calls of one that fails."""

from collections import Counter
from collections.abc import Callable
from random import Random
from time import monotonic
from typing import Any

import pytest

from servepath.protocols.errors import (
    BackendBadReply,
    BackendUnavailable,
    BadInput,
    BatchSpoiled,
    Cancelled,
    DeadlineExceeded,
    DeadlineStage,
    ServeError,
)
from servepath.protocols.types import Request
from services.dataplane.backend import Call, Outcome
from services.gateway.ejection import FAILURES, Health
from services.gateway.golden import Proof
from services.gateway.replicas import MAX_PAUSED, MAX_SAVED, RETRIES, RETRIES_EVERY_S, Member, ReplicaSet, RetryBudget
from tests.serving_fakes import ANSWER, SERVED

DOWN = BackendUnavailable("down")


class Server:
    """What a set needs of a Replica."""

    model, stack = "m", "a"

    def __init__(self) -> None:
        self.health = Health()
        self.ready_now = True
        self.served = SERVED
        self.proof = Proof()


class Queue:
    """What a set needs of a Batcher: ends calls as the test says, or keeps them."""

    def __init__(self, outcome: Outcome | None = ANSWER) -> None:
        self.outcome = outcome
        self.calls: list[Call] = []
        self.in_flight = self.queued = 0

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        if self.outcome is not None:
            call.end(self.outcome)


def replicas(*queues: Any, seed: int = 0, later: Any = None) -> tuple[ReplicaSet, list[Server]]:
    servers: list[Any] = [Server() for _ in queues]
    nothing: Any = None
    members = [Member(server, queue, nothing, nothing) for server, queue in zip(servers, queues, strict=True)]
    found = ReplicaSet(members, Random(seed).random, later)  # noqa: S311 - calls, not secrets
    found.use()
    return found, servers


def ask(found: ReplicaSet) -> Call:
    call = Call(Request("m", 0, ()), monotonic() + 60)
    found.submit(call)
    return call


def test_calls_go_to_the_less_loaded_of_two() -> None:
    queues = [Queue(), Queue()]
    queues[0].in_flight = 2
    queues[1].queued = 1
    found, _ = replicas(*queues)
    for _ in range(20):
        ask(found)
    assert [len(queue.calls) for queue in queues] == [0, 20]


def test_of_three_each_gets_its_share_and_the_busiest_only_where_it_is_drawn_twice() -> None:
    queues = [Queue(), Queue(), Queue()]
    queues[2].in_flight = 9
    found, _ = replicas(*queues)
    for _ in range(600):
        ask(found)
    counts = [len(queue.calls) for queue in queues]
    assert counts[2] == 0
    assert min(counts[:2]) > 150


@pytest.mark.parametrize("error", [DOWN, BatchSpoiled("")])
def test_a_call_that_one_replica_loses_is_answered_by_another(error: ServeError) -> None:
    queues = [Queue(error), Queue()]
    queues[1].in_flight = 1  # so that the failing one is asked first
    found, _ = replicas(*queues)
    retries = []
    found.on_retry = lambda: retries.append(1)
    assert ask(found).outcome is ANSWER
    assert [len(queue.calls) for queue in queues] == [1, 1]
    assert len(retries) == 1


@pytest.mark.parametrize("error", [BadInput(""), BackendBadReply(""), DeadlineExceeded(DeadlineStage.IN_BACKEND)])
def test_what_another_replica_would_do_no_better_is_not_tried_again(error: ServeError) -> None:
    queues = [Queue(error), Queue(error)]
    found, _ = replicas(*queues)
    assert ask(found).outcome is error
    assert sum(len(queue.calls) for queue in queues) == 1


def pushed_back(milliseconds: int) -> ServeError:
    error = BackendUnavailable("come back")
    error.pushback_ms = milliseconds
    return error


class Paused:
    """Two replicas, the first of which wants a pause; keeps what is to be done after it."""

    def __init__(self, milliseconds: int) -> None:
        self.error = pushed_back(milliseconds)
        self.queues = [Queue(self.error), Queue()]
        self.queues[1].in_flight = 1  # so that the first one is asked first
        self.pauses: list[tuple[float, Callable[[], None]]] = []
        self.replicas, self.servers = replicas(*self.queues, later=lambda *pause: self.pauses.append(pause))
        self.call = ask(self.replicas)

    @property
    def asked(self) -> list[int]:
        return [len(queue.calls) for queue in self.queues]


def test_a_call_is_tried_again_after_the_pause_that_its_server_wants() -> None:
    paused = Paused(250)
    assert (paused.call.outcome, paused.asked) == (None, [1, 0])
    ((seconds, go_on),) = paused.pauses
    assert seconds == 0.25
    go_on()
    assert paused.call.outcome is ANSWER


def test_a_pause_of_nothing_is_none() -> None:
    paused = Paused(0)
    assert (paused.call.outcome, paused.pauses) == (ANSWER, [])


@pytest.mark.parametrize("milliseconds", [-1, 60_000])
def test_a_call_whose_server_wants_no_other_try_or_none_before_its_deadline_is_not_tried_again(
    milliseconds: int,
) -> None:
    paused = Paused(milliseconds)
    assert (paused.call.outcome, paused.asked, paused.pauses) == (paused.error, [1, 0], [])


class Boundless(RetryBudget):
    """Allows every try."""

    def take(self) -> bool:
        return True


def test_so_many_calls_wait_out_a_pause_and_those_beyond_end_as_their_server_said() -> None:
    paused = Paused(250)
    paused.replicas.budget = Boundless()
    paused.queues[1].in_flight = 10**6  # so that the first one is asked first
    waiting = [ask(paused.replicas) for _ in range(MAX_PAUSED - 1)]
    assert {call.outcome for call in waiting} == {None}
    assert ask(paused.replicas).outcome is paused.error
    assert len(paused.pauses) == MAX_PAUSED
    paused.pauses[0][1]()
    assert paused.call.outcome is ANSWER
    assert ask(paused.replicas).outcome is None


def test_a_call_that_ends_in_the_pause_is_not_sent() -> None:
    paused = Paused(250)
    paused.call.cancel()
    ((_, go_on),) = paused.pauses
    go_on()
    assert isinstance(paused.call.outcome, Cancelled)
    assert paused.asked == [1, 0]


def test_where_the_other_replica_goes_in_the_pause_the_call_ends_as_its_own_server_said() -> None:
    paused = Paused(250)
    paused.servers[1].ready_now = False
    paused.replicas.refresh()
    ((_, go_on),) = paused.pauses
    go_on()
    assert (paused.call.outcome, paused.asked) == (paused.error, [1, 0])


def test_each_replica_is_tried_once_and_a_lone_one_once() -> None:
    queues = [Queue(DOWN), Queue(DOWN), Queue(DOWN)]
    assert ask(replicas(*queues)[0]).outcome is DOWN
    assert [len(queue.calls) for queue in queues] == [1, 1, 1]
    alone = Queue(DOWN)
    assert ask(replicas(alone)[0]).outcome is DOWN
    assert len(alone.calls) == 1


def test_tries_are_a_fifth_of_the_calls_and_a_few_more() -> None:
    now = [0.0]
    budget = RetryBudget(lambda: now[0])
    assert [budget.take() for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]
    for _ in range(100):
        budget.earn()
    assert sum(budget.take() for _ in range(100)) in {19, 20}  # as tenths add up
    now[0] = RETRIES_EVERY_S
    assert sum(budget.take() for _ in range(100)) == RETRIES


def test_what_is_saved_for_tries_is_bounded() -> None:
    budget = RetryBudget(lambda: 0.0)
    for _ in range(100_000):
        budget.earn()
    assert sum(budget.take() for _ in range(100_000)) <= MAX_SAVED + RETRIES + 1


def fail(server: Server, times: int, error: ServeError = DOWN) -> None:
    for _ in range(times):
        server.health.record(error)


def test_a_replica_whose_calls_fail_in_a_row_gets_none_until_a_probe_is_answered() -> None:
    queues = [Queue(), Queue()]
    found, servers = replicas(*queues)
    ejected = []
    found.on_eject = lambda: ejected.append(1)
    fail(servers[0], FAILURES - 1)
    assert not servers[0].health.ejected
    fail(servers[0], 1)
    assert (servers[0].health.ejected, len(ejected)) == (True, 1)
    for _ in range(10):
        ask(found)
    assert [len(queue.calls) for queue in queues] == [0, 10]
    servers[0].health.record_probe(answered=True)
    found.refresh()
    assert Counter(ask(found).outcome is ANSWER for _ in range(50)) == {True: 50}
    assert queues[0].calls


def test_the_last_usable_replica_is_never_ejected() -> None:
    queues = [Queue(), Queue()]
    found, servers = replicas(*queues)
    fail(servers[0], FAILURES)
    fail(servers[1], 10 * FAILURES)
    assert [server.health.ejected for server in servers] == [True, False]
    assert found.ready()


def test_where_no_replica_is_usable_the_ejected_ones_are_tried_too() -> None:
    queues = [Queue(), Queue()]
    found, servers = replicas(*queues)
    fail(servers[0], FAILURES)
    servers[1].ready_now = False
    found.refresh()
    for _ in range(30):
        ask(found)
    assert queues[0].calls
    assert not found.ready()


def test_calls_that_fail_on_what_they_are_eject_half_of_the_replicas_at_most() -> None:
    found, servers = replicas(Queue(), Queue(), Queue())
    for server in servers:
        fail(server, FAILURES, BackendBadReply("broken"))
    assert [server.health.ejected for server in servers] == [True, False, False]
    fail(servers[1], FAILURES)
    assert servers[1].health.ejected
    assert found.ready()


def test_a_set_that_is_not_in_use_ejects_nobody() -> None:
    queues = [Queue(), Queue()]
    found, servers = replicas(*queues)
    ReplicaSet(found.members)  # of a reload that failed
    fail(servers[0], FAILURES)
    for _ in range(10):
        ask(found)
    assert [len(queue.calls) for queue in queues] == [0, 10]


def test_one_that_is_back_is_ejected_again_by_its_first_failure_and_for_longer() -> None:
    _, servers = replicas(Queue(), Queue())
    health = servers[0].health
    fail(servers[0], FAILURES)
    health.record_probe(answered=True)
    fail(servers[0], 1)
    assert (health.ejected, health.back_off_s) == (True, 2.0)
    health.record_probe(answered=True)
    health.record(ANSWER)
    fail(servers[0], FAILURES - 1)
    assert not health.ejected


def test_one_that_does_not_answer_its_probes_gets_no_calls_while_another_does() -> None:
    queues = [Queue(), Queue()]
    found, servers = replicas(*queues)
    servers[0].ready_now = False
    found.refresh()
    for _ in range(10):
        ask(found)
    assert len(queues[1].calls) == 10
    servers[1].ready_now = False
    found.refresh()
    assert not found.ready()
    for _ in range(30):
        ask(found)
    assert queues[0].calls  # then all are as good as each other


def test_the_back_off_doubles_up_to_a_minute_and_shrinks_while_probes_are_answered() -> None:
    now = [0.0]
    health = Health(lambda: now[0])
    spans = []
    for _ in range(8):
        health.eject()
        spans.append(health.probe_at - now[0])
        assert not health.probed
        now[0] = health.probe_at
        assert health.probed
    assert spans == [1, 2, 4, 8, 16, 32, 60, 60]
    health.record_probe(answered=True)
    assert not health.ejected
    health.record_probe(answered=True)
    assert health.back_off_s == 60  # a first call may still fail
    health.record(ANSWER)
    for _ in range(59):
        health.record_probe(answered=True)
    health.eject()
    assert health.probe_at - now[0] == 2.0


def test_a_failed_probe_of_an_ejected_replica_ejects_it_for_longer() -> None:
    now = [0.0]
    health = Health(lambda: now[0])
    health.eject()
    health.record_probe(answered=False)  # while no other replica is usable, it is asked before its time
    assert (health.ejected, health.back_off_s) == (True, 1.0)
    now[0] = health.probe_at
    health.record_probe(answered=False)
    assert (health.ejected, health.back_off_s) == (True, 2.0)


def test_deadlines_and_bad_requests_eject_nobody() -> None:
    queues = [Queue(), Queue()]
    _, servers = replicas(*queues)
    fail(servers[0], 100, DeadlineExceeded(DeadlineStage.IN_BACKEND))
    fail(servers[0], 100, BadInput(""))
    assert not servers[0].health.ejected


def test_the_proof_shown_is_that_of_the_worst_replica() -> None:
    found, servers = replicas(Queue(), Queue(), Queue())
    servers[0].proof, servers[1].proof = Proof(0.5), Proof(0.1, unbatched="batches differ")
    assert found.proof.unbatched == "batches differ"
    servers[2].proof = Proof(9.0, refused="wrong")
    assert found.proof.refused == "wrong"
