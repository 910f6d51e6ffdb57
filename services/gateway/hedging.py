"""The policy that a call which takes longer than nearly all others is tried on a second replica, too (ADR 36).

The call stays where it is. The second try is a Call of its own, whose answer ends the first one; whichever is answered
first cancels the other.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from math import exp
from time import perf_counter_ns

from servepath.protocols.deployments import ALL, PathLimits
from servepath.protocols.errors import DeadlineStage, ServeError
from services.dataplane.backend import Call, Outcome
from services.gateway.ejection import FAULTS
from services.gateway.replicas import RETRIED, Member, ReplicaSet

# Nobody waits for less: it is what the timer can tell apart.
MIN_DELAY_NS = TICK_NS = 1_000_000
# Second tries that answered calls have earned, and that a moment of trouble may use up.
MAX_SAVED = 100
# How far one call moves the percentile, as an exponent.
STEP, SHARE = 0.05, 0.95
UP, DOWN = exp(STEP * SHARE), exp(-STEP * (1 - SHARE))
# What the other replica may do better.
ELSEWHERE = (*RETRIED, *FAULTS)
# What is known of a call without a second try: since when it waits to be looked at and when it was sent, both in ns of
# the clock, and the replicas that have had it. A tuple: a class of its own takes five times as long to make.
Sent = tuple[int, int, Sequence[Member]]


class RunningP95:
    """The 95th percentile of recent durations: each moves it, one above it 19 times as far as one below.

    So it stays where one of twenty is above. 0.1 us per call, and nothing is sorted.
    """

    def __init__(self) -> None:
        self.value = 0.0

    def record(self, duration: int) -> None:
        """Record one; the first is taken as it is."""
        if duration <= self.value:
            self.value *= DOWN
        else:
            self.value = self.value * UP or duration


@dataclass(slots=True, eq=False)
class SecondTry:
    """The second try of a call. tried: the replicas that have had the call. alone: the first try has failed."""

    call: Call
    sent_ns: int
    tried: Sequence[Member]
    alone: bool = False


class HedgingReplicas(ReplicaSet):
    """Replicas of which a second one is asked where the first does not answer in the time that 95 % of the calls take.

    At most hedge_percent calls are asked twice for a hundred answered, and none while a call waits at some replica.
    on_hedge, on_win: called at each second try, and at each that is answered first.
    """

    def __init__(
        self,
        members: Sequence[Member],
        limits: PathLimits,
        draw: Callable[[], float] = random.random,
        *,
        clock: Callable[[], int] = perf_counter_ns,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        super().__init__(members, draw, later)
        self.on_hedge: Callable[[], None] = _nothing
        self.on_win: Callable[[], None] = _nothing
        self._percent = limits.hedge_percent
        self._max_in_flight = limits.max_in_flight
        self._clock = clock
        self._saved_percent, self._max_saved_percent = 0.0, ALL * MAX_SAVED
        self._p95 = RunningP95()
        self._waiting: dict[Call, Sent] = {}  # in the order in which they are looked at
        self._seconds: dict[Call, SecondTry] = {}
        self._asleep = False

    def _send(self, call: Call, tried: Sequence[Member], member: Member) -> None:
        now, tried = self._clock(), (*tried, member)
        self._waiting[call] = now, now, tried
        if not self._asleep:
            self._sleep(self._delay_ns)
        call.add_done_callback(partial(self._ended, call, tried))
        member.batcher.submit(call)

    def _watch(self, call: Call, sent: Sent) -> None:
        """Look at the call after the delay."""
        self._waiting[call] = sent
        if not self._asleep:
            self._sleep(self._delay_ns)

    @property
    def _short(self) -> bool:
        """Return whether a call waits at some replica."""
        return any(member.batcher.queued for member in self._usable)

    @property
    def _delay_ns(self) -> float:
        return max(self._p95.value, MIN_DELAY_NS)

    def _sleep(self, ns: float) -> None:
        self._asleep = True
        self._later(max(ns, TICK_NS) / 1e9, self._wake)

    def _wake(self) -> None:
        """Look at the calls that have waited for long enough: one timer for all of them."""
        self._asleep = False
        if self._waiting and (self._saved_percent < ALL or self._short):
            self._sleep(self._delay_ns)  # nobody is tried now, so nobody is looked at
            return
        now = self._clock()
        until = now - self._delay_ns
        for call, _ in list(takewhile(lambda each: each[1][0] <= until, self._waiting.items())):
            if call in self._waiting:  # or another's second try has ended it
                self._hedge(call, now)
        if self._waiting and not self._asleep:
            since, *_ = next(iter(self._waiting.values()))
            self._sleep(since + self._delay_ns - now)

    def _hedge(self, call: Call, now: int) -> None:
        """Try the call on a second replica; where none has room, look at it again after as long a delay."""
        _, sent_ns, tried = self._waiting.pop(call)
        member = self._spare(tried)
        if member is None or self._saved_percent < ALL:
            self._watch(call, (now, sent_ns, tried))
            return
        self._saved_percent -= ALL
        self.on_hedge()
        second = Call(call.request, call.deadline)
        second.rows, second.trace = call.rows, call.trace
        self._seconds[call] = SecondTry(second, sent_ns, (*tried, member))
        second.add_done_callback(partial(self._second_ended, call))
        member.batcher.submit(second)

    def _spare(self, tried: Sequence[Member]) -> Member | None:
        """Return a replica that can take a call more, where no replica is short of time."""
        others = [member for member in self._usable if member not in tried]
        if not others or self._short:
            return None
        member = self._choose(others)
        return member if member.batcher.in_flight < self._max_in_flight else None

    def _ended(self, call: Call, tried: Sequence[Member], outcome: Outcome) -> None:
        waiting = self._waiting.pop(call, None)
        if waiting is not None:
            _, sent_ns, tried = waiting
        else:
            second = self._seconds[call]
            if isinstance(outcome, ELSEWHERE) and second.call.outcome is None:
                self._wait_for_second(call, second)
                return
            del self._seconds[call]
            second.call.cancel()
            sent_ns, tried = second.sent_ns, second.tried
        if isinstance(outcome, ServeError):
            super()._ended(call, tried, outcome)
        else:
            self._p95.record(self._clock() - sent_ns)
            if self._saved_percent < self._max_saved_percent:
                self._saved_percent += self._percent

    def _wait_for_second(self, call: Call, second: SecondTry) -> None:
        second.alone = True
        call.take_back()
        call.stage = DeadlineStage.IN_BACKEND
        call.add_done_callback(partial(self._ended, call, second.tried))

    def _second_ended(self, call: Call, outcome: Outcome) -> None:
        second = self._seconds.get(call)
        if second is None:
            return  # the call has ended, and its end has cancelled this
        if not isinstance(outcome, ServeError):
            self.on_win()
            call.end(outcome)
        elif second.alone:
            call.end(outcome)
        else:
            del self._seconds[call]
            self._watch(call, (self._clock(), second.sent_ns, second.tried))


def _nothing() -> None:
    pass
