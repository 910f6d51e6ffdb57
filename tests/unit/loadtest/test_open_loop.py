from collections.abc import Callable, Iterator

import gevent
import gevent.event
import pytest

from loadtest.calls import Clock
from loadtest.open_loop import MAX_OUTSTANDING, OVERLOADED, OpenLoop
from loadtest.recorder import Sample
from loadtest.timer import MillisecondTimer
from tests.limits import LONG_S

CLOCK = Clock()
OK = Sample(0, 1000.0, ok=True, code="OK", wrong=False, rows=1)


def open_loop(due_ns: list[int], ask: Callable[[], Sample], samples: list[Sample]) -> OpenLoop:
    return OpenLoop(iter(due_ns), ask, samples.append, CLOCK)


def soon(count: int, gap_ns: int = 1_000_000) -> list[int]:
    begin_ns = CLOCK.now_ns()
    return [begin_ns + gap_ns * number for number in range(count)]


def test_requests_leave_while_earlier_ones_wait_for_their_replies() -> None:
    samples: list[Sample] = []
    sent, replies = [], gevent.event.Event()

    def ask() -> Sample:
        sent.append(CLOCK.now_ns())
        if len(sent) == 10:
            replies.set()
        assert replies.wait(LONG_S)  # nobody is answered before all have left
        return OK._replace(sent_ns=sent[0])

    due_ns = soon(10)
    open_loop(due_ns, ask, samples).run(MillisecondTimer())
    assert sorted(sample.scheduled_ns or 0 for sample in samples) == due_ns


def test_a_request_that_could_not_leave_in_time_leaves_late_and_keeps_its_moment() -> None:
    samples: list[Sample] = []
    due_ns = [CLOCK.now_ns() - 50_000_000]
    open_loop(due_ns, lambda: OK._replace(sent_ns=CLOCK.now_ns()), samples).run(MillisecondTimer())
    (late,) = samples
    assert late.scheduled_ns == due_ns[0]
    assert late.response_us is not None
    assert late.response_us >= 50_000 + late.service_us


def test_beyond_the_bound_requests_are_recorded_as_errors_and_not_sent() -> None:
    samples: list[Sample] = []
    asked, replies = [], gevent.event.Event()

    def ask() -> Sample:
        asked.append(1)
        replies.wait(LONG_S)
        return OK

    def reply_after_the_refusals() -> None:
        while len(samples) < 5:
            gevent.sleep(0.01)
        replies.set()

    due_ns = soon(MAX_OUTSTANDING + 5, gap_ns=0)
    loop = open_loop(due_ns, ask, samples)
    gevent.spawn(reply_after_the_refusals)
    loop.run(MillisecondTimer())
    refused = [sample for sample in samples if sample.code == OVERLOADED]
    assert (len(asked), len(refused), len(samples)) == (MAX_OUTSTANDING, 5, MAX_OUTSTANDING + 5)
    assert not any(sample.ok for sample in refused)


def test_a_stopped_loop_sends_nothing_more() -> None:
    samples: list[Sample] = []
    loop = open_loop(soon(1000), lambda: OK, samples)
    gevent.spawn_later(0.01, loop.stop)
    loop.run(MillisecondTimer())
    assert len(samples) < 1000


def test_a_fault_of_the_load_test_itself_is_raised_and_not_counted_as_an_answer() -> None:
    samples: list[Sample] = []

    def ask() -> Sample:
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        open_loop(soon(3), ask, samples).run(MillisecondTimer())
    assert samples == []


def test_a_fault_of_the_schedule_is_raised_and_no_shortened_measurement_is_kept() -> None:
    def due_ns() -> Iterator[int]:
        yield from soon(2)
        raise LookupError("ours")

    samples: list[Sample] = []
    with pytest.raises(LookupError, match="ours"):
        OpenLoop(due_ns(), lambda: OK, samples.append, CLOCK).run(MillisecondTimer())


def test_a_fault_in_recording_what_was_not_sent_is_raised() -> None:
    replies = gevent.event.Event()

    def ask() -> Sample:
        replies.wait(LONG_S)
        return OK

    def record(sample: Sample) -> None:
        replies.set()
        if sample.code == OVERLOADED:
            raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        OpenLoop(iter(soon(MAX_OUTSTANDING + 1, gap_ns=0)), ask, record, CLOCK).run(MillisecondTimer())
