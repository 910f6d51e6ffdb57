"""A path's replicas: of two drawn, the one with fewer calls gets the next; what one loses, another answers."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from servepath.protocols.errors import BackendUnavailable, BatchSpoiled, ModelLoading, ServeError
from servepath.protocols.types import Provenance, Request
from services.dataplane.backend import Call, Outcome
from services.dataplane.batcher import Batcher
from services.gateway.golden import Proof
from services.gateway.prover import PathProver
from services.gateway.replica import Replica

log = logging.getLogger(__name__)
# Nobody computed an answer, or only for others; a prediction has no effect that a second try could double.
RETRIED = (BackendUnavailable, BatchSpoiled, ModelLoading)
# Tries beside the calls themselves: a fifth, and a few for a path with hardly any calls; saved up to MAX_SAVED.
RETRY_SHARE, RETRIES, RETRIES_EVERY_S, MAX_SAVED = 0.2, 3, 10.0, 1000.0
# Calls of a path that wait out a server's pause, as many as a queue has by default; others end as their server said.
MAX_PAUSED = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One replica, the queue in front of it, what proves it, and the request that it is probed with."""

    replica: Replica
    batcher: Batcher
    prover: PathProver
    probe: tuple[Request, int]

    @property
    def load(self) -> int:
        """Return the calls at the server and those that wait for it."""
        return self.batcher.in_flight + self.batcher.queued

    @property
    def usable(self) -> bool:
        """Return whether its probes are answered and its calls have not failed one after the other."""
        return self.replica.ready_now and not self.replica.health.ejected


class RetryBudget:
    """How many calls may be tried once more: RETRY_SHARE of those that come, and RETRIES in RETRIES_EVERY_S."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._saved = 0.0
        self._free = RETRIES
        self._since = clock()

    def earn(self) -> None:
        """Record a call."""
        if self._saved < MAX_SAVED:
            self._saved += RETRY_SHARE

    def take(self) -> bool:
        """Return whether one more try may be made, and count it."""
        if self._saved >= 1:
            self._saved -= 1
            return True
        if self._clock() - self._since >= RETRIES_EVERY_S:
            self._since, self._free = self._clock(), RETRIES
        self._free -= 1
        return self._free >= 0


class ReplicaSet:
    """A Backend of one path's replicas, one of which at least gets calls, whatever is known of it.

    on_retry, on_eject: called at each. budget: of its retries. ready_now: see `ready`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        draw: Callable[[], float] = random.random,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        """`later`: calls a function after so many seconds; asyncio's, unless told otherwise."""
        self.on_retry: Callable[[], None] = _nothing
        self.on_eject: Callable[[], None] = _nothing
        self.members = tuple(members)
        self._draw = draw
        self._later = later or _later
        self.budget = RetryBudget()
        self._paused = 0
        self._usable: Sequence[Member] = self.members
        self.ready_now = False
        self.refresh()

    def use(self) -> None:
        """Decide from now on which of the replicas are ejected; others may have had them before."""
        for member in self.members:
            member.replica.health.on_failing = partial(self._failing, member)

    def submit(self, call: Call) -> None:
        """Send the call to one replica, and to another one if that one is gone."""
        if len(self.members) == 1:
            self.members[0].batcher.submit(call)
        else:
            self.budget.earn()
            self._send(call, (), self._choose(self._usable))

    def ready(self) -> bool:
        """Return whether some replica was usable when that was found out last."""
        return self.ready_now

    async def close(self) -> None:
        """Close every replica."""
        for member in self.members:
            await member.batcher.close()

    def refresh(self) -> None:
        """Find out which replicas are usable; where none is, all are tried."""
        usable = [member for member in self.members if member.usable]
        self._usable, self.ready_now = usable or self.members, bool(usable)

    @property
    def in_flight(self) -> int:
        """Return the number of calls at servers, a merged one counted once."""
        return sum(member.batcher.in_flight for member in self.members)

    @property
    def queued(self) -> int:
        """Return the number of calls that wait."""
        return sum(member.batcher.queued for member in self.members)

    @property
    def merges(self) -> bool:
        """Return whether calls that wait now at some replica would leave as one."""
        return any(member.batcher.merges for member in self.members)

    @property
    def fault(self) -> str:
        """Return why no replica, or of several the first, is not ready; "" where all are."""
        return next((member.replica.fault for member in self.members if not member.replica.ready_now), "")

    @property
    def served(self) -> Provenance:
        """Return who answers calls without a version now, of a replica that gets calls."""
        return self._usable[0].replica.served

    @property
    def proof(self) -> Proof:
        """Return the proof that says most against its replica, or of the largest difference."""
        proofs = [member.replica.proof for member in self.members]
        return max(proofs, key=lambda proof: (bool(proof.refused), bool(proof.unbatched), proof.difference or 0.0))

    def _choose(self, members: Sequence[Member]) -> Member:
        """Return of two drawn the one with fewer calls."""
        count = len(members)
        if count == 1:
            return members[0]
        first, second = int(self._draw() * count), int(self._draw() * (count - 1))
        one, other = members[first], members[second + (second >= first)]
        return one if one.load <= other.load else other

    def _send(self, call: Call, tried: Sequence[Member], member: Member) -> None:
        call.add_done_callback(partial(self._ended, call, (*tried, member)))
        member.batcher.submit(call)

    def _ended(self, call: Call, tried: Sequence[Member], outcome: Outcome) -> None:
        if not isinstance(outcome, RETRIED):
            return
        pause_s = (outcome.pushback_ms or 0) / 1e3
        if pause_s < 0 or (pause_s and (self._paused >= MAX_PAUSED or monotonic() + pause_s >= call.deadline)):
            return
        others = self._others(tried)
        if others and self.budget.take():
            self.on_retry()
            call.take_back()
            if pause_s:
                self._paused += 1
                self._later(pause_s, partial(self._send_paused, call, tried, outcome))
            else:
                self._send(call, tried, self._choose(others))

    def _others(self, tried: Sequence[Member]) -> Sequence[Member]:
        return [member for member in self._usable if member not in tried]

    def _send_paused(self, call: Call, tried: Sequence[Member], outcome: ServeError) -> None:
        """Send a call whose server wanted a pause, or end it as that server did where no other one is left."""
        self._paused -= 1
        if call.outcome is not None:
            return
        if others := self._others(tried):
            self._send(call, tried, self._choose(others))
        else:
            call.end(outcome)

    def _failing(self, member: Member, error: ServeError) -> None:
        """Send a replica nothing for a while, unless it is the last one.

        Of those that are there and fail calls, half at most: it may be the calls.
        """
        ejected = sum(other.replica.health.ejected for other in self.members)
        few = isinstance(error, BackendUnavailable) or 2 * (ejected + 1) <= len(self.members)
        if few and any(other.usable for other in self.members if other is not member):
            member.replica.health.eject()
            self.on_eject()
            path, health = member.replica, member.replica.health
            log.warning(
                "a replica of %s@%s gets no calls for %g s: %d failed in a row",
                *(path.model, path.stack, health.back_off_s, health.failures),
            )
            self.refresh()


def _later(seconds: float, function: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, function)


def _nothing() -> None:
    pass
