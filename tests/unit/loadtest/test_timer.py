import os
import time

import gevent
import pytest

from loadtest.timer import EARLY_NS, SHARE, MillisecondTimer, TimerFd, best_timer

TIMERS = (TimerFd, MillisecondTimer) if hasattr(os, "eventfd") else (MillisecondTimer,)


@pytest.mark.parametrize("make", TIMERS)
@pytest.mark.parametrize("wait_ns", [3_000_000, 23_000_000])
def test_a_wait_never_ends_early_and_lets_others_run(make: type[TimerFd], wait_ns: int) -> None:
    timer, ran = make(), []
    gevent.spawn(ran.append, 1)
    for _ in range(5):
        due_ns = time.perf_counter_ns() + wait_ns
        timer.wait_until(due_ns)
        assert time.perf_counter_ns() >= due_ns
    assert ran == [1]
    timer.close()


@pytest.mark.parametrize("make", TIMERS)
def test_a_moment_that_is_past_is_not_waited_for_but_others_may_run(make: type[TimerFd]) -> None:
    timer, ran = make(), []
    gevent.spawn(ran.append, 1)
    timer.wait_until(time.perf_counter_ns() - 10**12)
    timer.wait_until(0)
    assert ran == [1]
    timer.close()


@pytest.mark.skipif(TimerFd not in TIMERS, reason="no timerfd")
def test_others_run_while_the_end_of_a_long_wait_is_watched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, ran, slept = TimerFd(), [], []
    monkeypatch.setattr(timer, "_sleep_until", slept.append)
    gevent.spawn(ran.append, 1)
    due_ns = time.perf_counter_ns() + int(EARLY_NS / SHARE) + 500_000_000
    timer.wait_until(due_ns)
    assert time.perf_counter_ns() >= due_ns
    assert (ran, slept) == ([1], [due_ns - EARLY_NS])
    timer.close()


@pytest.mark.skipif(TimerFd not in TIMERS, reason="no timerfd")
def test_watching_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, now_ns, ends = TimerFd(), [0], []

    def sleep_until(due_ns: int) -> None:
        ends.append(due_ns)
        now_ns[0] = due_ns

    monkeypatch.setattr(timer, "_sleep_until", sleep_until)
    monkeypatch.setattr("loadtest.timer.time.perf_counter_ns", lambda: now_ns[0])
    monkeypatch.setattr("loadtest.timer.gevent.sleep", lambda _: sleep_until(now_ns[0] + EARLY_NS))
    for wait_ns, share in ((30_000_000, 1.0), (2_000_000, 0.1)):
        dues = [now_ns[0] + number * wait_ns for number in range(1, 1001)]
        ends.clear()
        for due_ns in dues:
            timer.wait_until(due_ns)
            assert now_ns[0] == due_ns
        early = len(ends) - len(dues)  # each of these slept twice
        assert early == pytest.approx(1000 * share, abs=12)
    timer.close()


def test_the_finest_timer_of_this_system_is_taken_and_named() -> None:
    timer = best_timer()
    assert timer.name == TIMERS[0].name
    timer.close()
