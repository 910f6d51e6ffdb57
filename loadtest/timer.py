"""Waiting for a moment to some 50 us under gevent, whose own timers count whole milliseconds.

libev hands its timers to epoll, which takes milliseconds: `gevent.sleep` ends half a millisecond late on the median. A
timerfd (https://man7.org/linux/man-pages/man2/timerfd_create.2.html) is a file that the kernel makes readable at a
moment of CLOCK_MONOTONIC, by a high-resolution timer; the hub watches it like a socket. Python 3.11 has no
os.timerfd_create: ctypes asks libc.

A core that has slept for long wakes late, 0.4 ms on the median and over 1 ms once in 50 times (2 cores of a virtual
machine, 5 to 25 requests/s, 2026-11-28, 1f8ad0f). So a wait ends a little early, if there are not too many, and
the rest is spent looking at the clock and at replies.
"""

import ctypes
import os
import time
from typing import Protocol

import gevent
from gevent.hub import get_hub

TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1
NS_PER_S = 1_000_000_000
EXPIRATIONS_BYTES = 8
READ = 1
# So much before its time a wait ends, where that takes no more than this share of a core: below 50 requests/s,
# but for bursts.
EARLY_NS, SHARE = 1_000_000, 0.05
MAX_CREDIT_NS = 10 * EARLY_NS


class Timer(Protocol):
    """What an open loop waits with. name: what it is, for run.json."""

    name: str

    def wait_until(self, due_ns: int) -> None:
        """Wait, while other greenlets run, until time.perf_counter_ns() is `due_ns`; return at once when it is past."""

    def close(self) -> None:
        """Release the timer's resources."""


class _Itimerspec(ctypes.Structure):
    """Interval and first expiration, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class TimerFd:
    """A timerfd that the hub watches. Raises OSError where the kernel or libc has none."""

    name = "timerfd"

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timerfd_create"):
            raise OSError("libc has no timerfd_create")
        # On Linux time.perf_counter_ns() reads CLOCK_MONOTONIC, too.
        self._file = self._checked(self._libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC))
        self._watcher = get_hub().loop.io(self._file, READ)
        self._credit_ns = 0.0

    def wait_until(self, due_ns: int) -> None:
        """Wait; every wait yields once."""
        left_ns = due_ns - time.perf_counter_ns()
        if left_ns <= 0:
            gevent.sleep(0)
            return
        self._credit_ns = min(self._credit_ns + SHARE * left_ns, MAX_CREDIT_NS)
        if left_ns <= EARLY_NS or self._credit_ns < EARLY_NS:
            self._sleep_until(due_ns)
            return
        self._credit_ns -= EARLY_NS
        self._sleep_until(due_ns - EARLY_NS)
        while time.perf_counter_ns() < due_ns:
            gevent.sleep(0)

    def _sleep_until(self, due_ns: int) -> None:
        seconds, nanoseconds = divmod(due_ns, NS_PER_S)
        spec = ctypes.byref(_Itimerspec(0, 0, seconds, nanoseconds))
        self._checked(self._libc.timerfd_settime(self._file, TFD_TIMER_ABSTIME, spec, None))
        get_hub().wait(self._watcher)
        os.read(self._file, EXPIRATIONS_BYTES)

    def close(self) -> None:
        """Close the file."""
        self._watcher.close()
        os.close(self._file)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


class MillisecondTimer:
    """gevent's own timers, where there is no timerfd: half a millisecond late on the median."""

    name = "gevent (whole milliseconds)"

    def wait_until(self, due_ns: int) -> None:
        """Wait; every wait yields once."""
        gevent.sleep(max(due_ns - time.perf_counter_ns(), 0) / NS_PER_S)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def best_timer() -> Timer:
    """Return the finest timer that this system has."""
    try:
        return TimerFd()
    except OSError:
        return MillisecondTimer()
