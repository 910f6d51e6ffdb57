"""Real-time scheduling for the generator, where the system permits it: on a busy machine it is what keeps it on time.

On a core with three busy loops an ordinary generator sent a quarter of its requests more than a millisecond late, a
real-time one none (docs/adr/0013-open-loop.md). It spins for at most 5 % of the time (timer.py), so it takes hardly
more than its work needs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# The lowest real-time priority: above every ordinary process, below whatever else is real-time.
PRIORITY = 1


def keep_on_time() -> str:
    """Run this thread, and those that it starts from now on, in real time; return the result, for run.json.

    Linux permits it to root, and to others within `ulimit -r`.
    """
    if not hasattr(os, "sched_setscheduler"):
        return "ordinary scheduling: this system has no real-time scheduling"
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except PermissionError:
        return "ordinary scheduling: real-time is not permitted to this user (ulimit -r)"
    return "real-time scheduling"


@contextmanager
def ordinary() -> Iterator[None]:
    """Run this thread in ordinary scheduling within the `with` statement: what it starts must not inherit its own."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@contextmanager
def on_time() -> Iterator[None]:
    """Run this thread, and processes that it starts, in real time within the `with` statement, if permitted."""
    keep_on_time()
    try:
        yield
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
