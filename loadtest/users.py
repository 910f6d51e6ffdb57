"""Closed-loop Locust users: each waits for its reply, so a stalled server is asked less often.

Locust's `request` event carries our own sample; its statistics, whole milliseconds, stay in its web page.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import gevent
from locust import User, task

from loadtest.calls import Caller, Clock, Target
from loadtest.payloads import Payload
from loadtest.recorder import Sample


class FailedRequestError(Exception):
    """What Locust's page shows for a request without a right answer."""


class PathUser(User):  # type: ignore[misc]
    """One caller of one target, with one connection, that starts a request every `interval_s`.

    A request that starts late moves the following ones: lost time is not made up. The users of a class start one after
    another within one interval (`phases`), or all would send at the same moments.
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
        """Give the seconds until the next request is due."""
        now_s = time.perf_counter()
        self.due_s = max(self.due_s + self.interval_s, now_s)
        return self.due_s - now_s

    @task  # type: ignore[untyped-decorator]
    def predict(self) -> None:
        """Ask once, and tell Locust."""
        sample = self.caller.ask(next(self.payloads))
        self.environment.events.request.fire(
            request_type="grpc",
            name=str(self.target.block),
            response_time=sample.service_us / 1e3,
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
    """Give the users of one target: each sends every `interval_s` seconds; `users` of them spread over one interval."""
    attributes: dict[str, Any] = {
        "target": target,
        "host": target.address,
        "payloads": itertools.cycle(payloads),
        "phases": itertools.cycle([interval_s * turn / users for turn in range(users)]),
        "interval_s": interval_s,
        "clock": clock,
    }
    return type(str(target.block), (PathUser,), attributes)
