import os
import time

import gevent
import pytest

from loadtest.timer import MillisecondTimer, TimerFd, best_timer

TIMERS = (TimerFd, MillisecondTimer) if hasattr(os, "eventfd") else (MillisecondTimer,)


@pytest.mark.parametrize("make", TIMERS)
def test_a_wait_never_ends_early_and_lets_others_run(make: type[TimerFd]) -> None:
    timer, ran = make(), []
    gevent.spawn(ran.append, 1)
    for _ in range(5):
        due_ns = time.perf_counter_ns() + 3_000_000
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


def test_the_finest_timer_of_this_system_is_taken_and_named() -> None:
    timer = best_timer()
    assert timer.name == TIMERS[0].name
    timer.close()
