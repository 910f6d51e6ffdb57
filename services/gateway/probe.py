"""Health by real predictions: every path is asked its model's probe request, once a second."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic

from grpc_health.v1 import health, health_pb2

from servepath.protocols.errors import BackendUnavailable, Internal, ServeError
from servepath.protocols.types import Request
from services.dataplane.backend import Call, Outcome
from services.gateway.golden import Proof
from services.gateway.replica import Replica
from services.gateway.replicas import Member, ReplicaSet

log = logging.getLogger(__name__)
STATES = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
# A first call may wait for a server's lazy start; a later one that takes this long is as good as none.
TIMEOUT_S = 2.0
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

    Beside them stand LIVENESS and READINESS.
    """

    def __init__(self, interval_s: float, *, timeout_s: float = TIMEOUT_S) -> None:
        self.servicer = health.aio.HealthServicer()
        self._ready: Mapping[str, Callable[[], bool]] = {}
        self._sets: Sequence[ReplicaSet] = ()
        self._gone: set[str] = set()
        self._interval_s = interval_s
        self._proofs: dict[Replica, asyncio.Task[None]] = {}
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None
        self._answered_once = False

    def use(self, ready: Mapping[str, Callable[[], bool]], sets: Sequence[ReplicaSet]) -> None:
        """Probe these from now on; `ready`: every name -> what says whether its calls would be answered."""
        self._gone = (self._gone | set(self._ready)) - set(ready)
        self._ready, self._sets = ready, sets
        kept = {member.replica for replicas in sets for member in replicas.members}
        for replica in set(self._proofs) - kept:
            self._proofs.pop(replica).cancel()

    async def start(self) -> None:
        """Set every entry but LIVENESS NOT_SERVING and begin."""
        await self.servicer.set(LIVENESS, STATES[True])
        await self._publish()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Set every entry NOT_SERVING for good and end."""
        if self._task is not None:
            ending = {self._task, *self._proofs.values()}
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)
        await self.servicer.enter_graceful_shutdown()

    async def _run(self) -> None:
        while True:
            sets = self._sets
            await asyncio.gather(*(self._probe(member, replicas) for replicas in sets for member in replicas.members))
            for replicas in self._sets:  # other ones than at the beginning of the round, after a reload
                replicas.refresh()
            await self._publish()
            await asyncio.sleep(self._interval_s)

    async def _probe(self, member: Member, replicas: ReplicaSet) -> None:
        replica = member.replica
        if replicas.ready() and not replica.health.probed:
            return
        try:
            await replica.identify(self._timeout_s)
            reason = await self._fault(member)
        except Exception:  # escaping, it would end all probes, and every entry stay as it is
            log.exception("a probe of %s@%s failed", replica.model, replica.stack)
            reason = "the probe itself failed"
        if reason != PROVING:
            replica.health.record_probe(answered=not reason)
        if (ready := not reason) != replica.ready_now:
            log.info("%s@%s is %s", replica.model, replica.stack, "ready: answers" if ready else f"not ready: {reason}")
        replica.ready_now, replica.fault = ready, reason
        replicas.refresh()

    async def _fault(self, member: Member) -> str:
        """Return why a replica is not ready, "" where it is; a proof goes on beside the probes."""
        replica, prover, (request, rows) = member.replica, member.prover, member.probe
        outcome = await self._ask(replica, request, rows, self._timeout_s)
        if isinstance(outcome, ServeError):
            if isinstance(outcome, BackendUnavailable):
                prover.forget()
                replica.proof = Proof()
            return outcome.text
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
            except Exception:  # escaping, it would end all probes, and every entry stay as it is
                log.exception("a probe of %s@%s could not be sent", replica.model, replica.stack)
                call.end(Internal())
            return await ended
        finally:
            timer.cancel()
            call.cancel()

    async def _publish(self) -> None:
        ready = {name: is_ready() for name, is_ready in self._ready.items()}
        for name, state in ready.items():
            await self.servicer.set(name, STATES[state])
        for name in self._gone:
            await self.servicer.set(name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        self._gone.clear()
        self._answered_once |= any(ready.values())
        await self.servicer.set("", STATES[all(ready.values())])
        await self.servicer.set(READINESS, STATES[self._answered_once])
