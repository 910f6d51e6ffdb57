"""Locust users of one path, for driving by hand: open loop, or closed when Locust is given `--closed-loop`.

Locust's `request` event carries our own sample; its statistics, whole milliseconds, stay in its web page.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import gevent
import numpy as np
from locust import User, task

from loadtest.calls import Caller, Clock, Target
from loadtest.open_loop import OpenLoop
from loadtest.payloads import Payload
from loadtest.recorder import Sample
from loadtest.timer import best_timer


class FailedRequestError(Exception):
    """What Locust's page shows for a request without a right answer."""


class PathUser(User):  # type: ignore[misc]
    """One caller of one target, with one connection, that starts a request every `interval_s`, on average or at least.

    Open loop: a Poisson stream, whatever the replies do. Closed loop: it waits for its reply; a request that starts
    late moves the following ones: lost time is not made up. The closed users of a class start one after another within
    one interval (`phases`), or all would send at the same moments.
    """

    abstract = True
    target: ClassVar[Target]
    payloads: ClassVar[Iterator[Payload]]
    phases: ClassVar[Iterator[float]]
    interval_s: ClassVar[float]
    clock: ClassVar[Clock]

    def on_start(self) -> None:
        """Connect, and wait for this user's turn."""
        self.caller = Caller(self.target, self.clock)
        gevent.sleep(next(self.phases))
        self.due_s = time.perf_counter()

    def on_stop(self) -> None:
        """Disconnect."""
        self.caller.close()

    def wait_time(self) -> float:
        """Return the seconds until the next request of a closed loop is due."""
        now_s = time.perf_counter()
        self.due_s = max(self.due_s + self.interval_s, now_s)
        return self.due_s - now_s

    @task  # type: ignore[untyped-decorator]
    def predict(self) -> None:
        """Send one request, or a whole open loop, and report to Locust."""
        if self.environment.parsed_options.closed_loop:
            self._told(self._ask())
        else:
            self._stream()

    def _stream(self) -> None:
        timer = best_timer()
        loop = OpenLoop(self._moments_ns(), self._ask, self._told, self.clock)
        try:
            loop.run(timer)
        finally:
            loop.stop()  # Locust has ended this user
            loop.join()
            timer.close()

    def _moments_ns(self) -> Iterator[int]:
        gaps_s, due_ns = np.random.default_rng(), self.clock.now_ns()
        while True:
            due_ns += int(gaps_s.exponential(self.interval_s) * 1e9)
            yield due_ns

    def _ask(self) -> Sample:
        return self.caller.ask(next(self.payloads))

    def _told(self, sample: Sample) -> None:
        tell(self.environment, str(self.target.measurement), sample)


def tell(environment: Any, name: str, sample: Sample) -> None:
    """Report a request to Locust: its response time in an open loop, else its service time."""
    time_us = sample.service_us if sample.response_us is None else sample.response_us
    environment.events.request.fire(
        request_type="grpc",
        name=name,
        response_time=time_us / 1e3,
        response_length=0,
        response=None,
        context={"sample": sample},
        exception=_failure(sample),
    )


def _failure(sample: Sample) -> FailedRequestError | None:
    if sample.ok and not sample.wrong:
        return None
    return FailedRequestError("wrong answer" if sample.ok else sample.code)


def user_class(
    target: Target, payloads: Sequence[Payload], clock: Clock, *, interval_s: float, users: int
) -> type[PathUser]:
    """Return the users of one target: each sends every `interval_s` seconds.

    `users` of them spread over one interval.
    """
    attributes: dict[str, Any] = {
        "target": target,
        "host": target.address,
        "payloads": itertools.cycle(payloads),
        "phases": itertools.cycle([interval_s * turn / users for turn in range(users)]),
        "interval_s": interval_s,
        "clock": clock,
    }
    return type(str(target.measurement), (PathUser,), attributes)
