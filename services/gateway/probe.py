"""Health by real predictions: every path is asked its model's probe request, a second after it answered the last one.

Each server has a loop of its own: one that hangs delays nobody else's, and one that is slow is asked more rarely.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from grpc_health.v1 import health, health_pb2

from servepath.protocols.errors import BackendUnavailable, Internal, ServeError
from servepath.protocols.types import Request
from services.dataplane.backend import Call, Outcome
from services.dataplane.health import end_entries, set_entries
from services.gateway.golden import Proof
from services.gateway.replica import Replica
from services.gateway.replicas import Member, ReplicaSet

log = logging.getLogger(__name__)
STATES = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
# A ready server is not ready any more once it has not answered its probe for so long, or for SLOWER times what its last
# answer took: then it is slow, and does not hang.
LATE_S, SLOWER = 2.0, 2.0
# The pause after an answer, as many times what it took, where that is more than the interval.
PAUSE = 9.0
# Why a path is not ready that answers its probes.
PROVING = "golden rows have not been answered yet"
# A batch of a proof may take longer than a probe of one row.
PROOF_TIMEOUT_S = 15.0
# Two entries for anyone who runs this process, Kubernetes for one; no model may have such a name
# (servepath/artifacts/names.py). LIVENESS: the event loop turns, whatever the paths do: a gateway that is started again
# because a server is down helps nobody. READINESS: some path has answered once; then callers are better served by our
# errors than by no gateway.
LIVENESS, READINESS = "liveness", "readiness"


class Prober:
    """Keeps grpc.health.v1 true: one entry for each MODEL@STACK, each MODEL (where its calls go) and "" (all of them).

    Beside them stand LIVENESS and READINESS. timeout_s: of a probe; a slow model needs as long as callers' calls may.
    """

    def __init__(self, interval_s: float, *, timeout_s: float) -> None:
        self.servicer = health.aio.HealthServicer()
        self._ready: Mapping[str, Callable[[], bool]] = {}
        self._sets: Sequence[ReplicaSet] = ()
        self._gone: set[str] = set()
        self._interval_s = interval_s
        self._proofs: dict[Replica, asyncio.Task[None]] = {}
        self._timeout_s = timeout_s
        self._loops: dict[tuple[Member, ReplicaSet], asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answered_once = False

    def use(self, ready: Mapping[str, Callable[[], bool]], sets: Sequence[ReplicaSet]) -> None:
        """Probe these from now on; `ready`: every name -> what says whether its calls would be answered."""
        self._gone = (self._gone | set(self._ready)) - set(ready)
        self._ready, self._sets = ready, sets
        kept = {member.replica for replicas in sets for member in replicas.members}
        for replica in set(self._proofs) - kept:
            self._proofs.pop(replica).cancel()
        if self._task is not None:
            self._follow(self._interval_s)
        self._changed.set()

    async def start(self) -> None:
        """Set every entry but LIVENESS NOT_SERVING and begin."""
        await set_entries(self.servicer, {LIVENESS: STATES[True]})
        await self._publish()
        self._task = asyncio.create_task(self._run())
        self._follow(0)

    async def stop(self) -> None:
        """Set every entry NOT_SERVING for good and end."""
        if self._task is not None:
            ending = {self._task, *self._loops.values(), *self._proofs.values()}
            self._task = None
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)
        await end_entries(self.servicer, (LIVENESS, READINESS, "", *self._ready))

    def _follow(self, wait_s: float) -> None:
        """Probe the members in use, and no others; those that are new in so many seconds."""
        wanted = {(member, replicas): None for replicas in self._sets for member in replicas.members}
        for gone in self._loops.keys() - wanted.keys():
            self._loops.pop(gone).cancel()
        for each in wanted:
            if each not in self._loops:
                self._loops[each] = asyncio.create_task(self._probe_on(*each, wait_s))

    async def _run(self) -> None:
        """Publish what is known: at each change, and now and then."""
        while True:
            self._changed.clear()
            for replicas in self._sets:
                replicas.refresh()
            await self._publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._changed.wait()

    async def _probe_on(self, member: Member, replicas: ReplicaSet, wait_s: float) -> None:
        while True:
            await asyncio.sleep(wait_s)
            await self._probe(member, replicas)
            # A server that takes seconds for a call, and computes one at a time, is its callers' for most of the time.
            pause_s = PAUSE * member.replica.health.probe_s if member.replica.ready_now else 0
            wait_s = max(self._interval_s, pause_s)

    async def _probe(self, member: Member, replicas: ReplicaSet) -> None:
        replica = member.replica
        if replicas.ready() and not replica.health.probed:
            return
        try:
            await replica.identify(LATE_S)
            reason = await self._fault(member, replicas)
        except Exception:  # escaping, it would end the probes of this server, and its entry stay as it is
            log.exception("a probe of %s@%s failed", replica.model, replica.stack)
            reason = "the probe itself failed"
        if reason != PROVING:
            replica.health.record_probe(answered=not reason)
        self._note(replica, replicas, reason)

    def _note(self, replica: Replica, replicas: ReplicaSet, reason: str) -> None:
        """Keep why a replica is not ready, "" where it is."""
        if (ready := not reason) != replica.ready_now:
            log.info("%s@%s is %s", replica.model, replica.stack, "ready: answers" if ready else f"not ready: {reason}")
        replica.ready_now, replica.fault = ready, reason
        known = replicas.ready()
        replicas.refresh()
        if replicas.ready() != known:
            self._changed.set()

    async def _fault(self, member: Member, replicas: ReplicaSet) -> str:
        """Return why a replica is not ready, "" where it is; a proof goes on beside the probes."""
        replica, prover, (request, rows) = member.replica, member.prover, member.probe
        began, late_s = monotonic(), max(LATE_S, SLOWER * replica.health.probe_s)
        late = asyncio.get_running_loop().call_later(
            late_s, self._note, replica, replicas, f"its probe is not answered within {late_s:.3g} s"
        )
        try:
            outcome = await self._ask(replica, request, rows, self._timeout_s)
        finally:
            late.cancel()
        if isinstance(outcome, ServeError):
            if isinstance(outcome, BackendUnavailable):
                prover.forget()
                replica.proof = Proof()
            return outcome.text
        replica.health.probe_s = monotonic() - began
        running = self._proofs.get(replica)
        if prover.wanted(outcome.served) and (running is None or running.done()):
            ask = partial(self._ask, replica, timeout_s=PROOF_TIMEOUT_S)
            running = self._proofs[replica] = asyncio.create_task(prover.prove(ask, outcome.served))
        if running is not None:
            await asyncio.wait({running}, timeout=self._interval_s)
        if prover.proof is None:
            return PROVING
        replica.proof = prover.proof
        return replica.proof.refused

    async def _ask(self, replica: Replica, request: Request, rows: int, timeout_s: float) -> Outcome:
        """Return the outcome of one call of the gateway's own, whatever is known of the server."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()
        call = Call(request, monotonic() + timeout_s)
        call.rows = rows
        call.add_done_callback(lambda outcome: None if ended.done() else ended.set_result(outcome))
        # The call's own end and not a timeout of ours: whatever is late, the next probe follows.
        timer = loop.call_later(timeout_s, call.expire)
        try:
            try:
                replica.send(call)
            except Exception:  # escaping, it would say nothing of the server
                log.exception("a probe of %s@%s could not be sent", replica.model, replica.stack)
                call.end(Internal())
            return await ended
        finally:
            timer.cancel()
            call.cancel()

    async def _publish(self) -> None:
        ready = {name: is_ready() for name, is_ready in self._ready.items()}
        self._answered_once |= any(ready.values())
        states = {name: STATES[state] for name, state in ready.items()}
        states[""], states[READINESS] = STATES[all(ready.values())], STATES[self._answered_once]
        gone = dict.fromkeys(self._gone, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        await set_entries(self.servicer, gone | states)
