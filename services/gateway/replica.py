"""The call to a path's server: one address, one channel, one codec."""

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter_ns

from grpc import StatusCode

from servepath.http2.drivers.asyncio_channel import Cancel, UnaryChannel
from servepath.http2.replies import Metadata, Reply
from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols.codecs import StackCodec
from servepath.protocols.errors import BackendBadReply, DeadlineStage, Draining, Internal, ServeError, TooLarge
from servepath.protocols.identity import EngineOf
from servepath.protocols.signature import Signature
from servepath.protocols.status import pushback_of
from servepath.protocols.token import RENEWAL_PAUSES_S, Credentials
from servepath.protocols.types import Answer, Provenance
from services.dataplane.backend import Call, Outcome
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.ejection import Health
from services.gateway.golden import Proof
from services.gateway.metadata import ServerMetadata

log = logging.getLogger(__name__)


class Replica:
    """One server of one path.

    called: what the server calls the model. engine_of: gives engine, version and precision from a reply's trailing
    metadata, where replies do not name them.
    metadata: of an external server. fault: why it is not ready, as the last probe found it. retired: it is closed,
    and the gateway goes on without it. attempt: makes what carries a call there and back.
    """

    def __init__(
        self,
        *,
        model: str,
        stack: str,
        called: str,
        address: str,
        codec: StackCodec,
        signature: Signature,
        artifacts: Artifacts | ExternalArtifacts,
        max_message_bytes: int,
        credentials: Credentials,
        engine_of: EngineOf,
        coalescer: WriteCoalescer | None = None,
        metadata: ServerMetadata | None = None,
    ) -> None:
        self.model = model
        self.stack = stack
        self.address = address
        self._called = called
        self._codec = codec
        self._signature = signature
        self._artifacts = artifacts
        self._max_message_bytes = max_message_bytes
        self.credentials = credentials
        self._engine_of = metadata.engine_of if metadata else engine_of
        self.metadata = metadata
        self.channel = UnaryChannel(address, codec.METHOD, max_message_bytes, coalescer)
        self.ready_now = False
        self.fault = "not asked yet"
        self.proof = Proof()
        self.health = Health()
        self.retired = False
        self.attempt: Callable[..., Attempt] = Attempt
        self._closed = False
        # The origin of the last answer to a call without a version; until there is one, what the manifest promises.
        self.served = Provenance(model, stack, "", "", *artifacts.promised(0), sha256_observed=False)

    def submit(self, call: Call) -> None:
        """Send the call, whose outcome follows, unless the server is proven to answer something else than the model."""
        proof = self.proof
        if proof.refused and call.request.version in {0, proof.version}:
            call.end(BackendBadReply(f"{self.model}@{self.stack} is refused: {proof.refused}"))
        else:
            self.send(call, counted=True)

    def send(self, call: Call, *, counted: bool = False) -> None:
        """Send the call; its outcome follows, and counts for the server's health where it is a caller's."""
        call.stage = DeadlineStage.IN_BACKEND
        try:
            payload = self._codec.encode_request(call.request, self._called, call.request.version)
        except ServeError as error:
            call.end(error)
            return
        if len(payload) > self._max_message_bytes:
            text = f"{len(payload)} bytes for {self.stack}, which takes {self._max_message_bytes} at most"
            call.end(TooLarge(text))
        else:
            self.attempt(self, call, payload, counted=counted).send()

    @property
    def name(self) -> tuple[str, str]:
        """Return the path, model and stack."""
        return self.model, self.stack

    def ready(self) -> bool:
        """Return whether the last probe was answered."""
        return self.ready_now

    def believe(self, other: "Replica") -> None:
        """Take over what is known of the same server, whose replica the other one was."""
        self.ready_now, self.fault, self.served = other.ready_now, other.fault, other.served
        self.proof, self.health = other.proof, other.health
        if self.metadata and other.metadata:
            self.metadata.engine = other.metadata.engine

    async def identify(self, timeout_s: float) -> None:
        """Learn who an external server is; the replies of the others tell. Raises nothing."""
        if self.metadata:
            await self.metadata.refresh(timeout_s)

    async def close(self) -> None:
        """Close the connection; calls in flight end as refused by a gateway that shuts down."""
        self._closed = True
        await self.channel.close()
        if self.metadata:
            await self.metadata.close()

    def outcome(self, call: Call, reply: Reply, sent_ns: int) -> Outcome:
        """Return the outcome of a server's reply."""
        if reply.code is not StatusCode.OK:
            closing = self._closed and not self.retired
            return Draining() if closing else self._error(reply)
        backend_us = (perf_counter_ns() - sent_ns) // 1000
        try:
            return self._answer(call, reply, backend_us)
        except ServeError as error:
            return error
        except Exception:
            log.exception("a reply of %s@%s could not be read", self.model, self.stack)
            return Internal()

    def _error(self, reply: Reply) -> ServeError:
        error = self._codec.translate(reply.code, reply.details)
        error.pushback_ms = pushback_of(reply.trailing)
        if error.pushback_ms and error.retry_after_ms is not None:
            # Our caller is told the same, but for 0, which is for us: to ask another server at once.
            error.retry_after_ms = error.pushback_ms if error.pushback_ms > 0 else None
        return error

    def _answer(self, call: Call, reply: Reply, backend_us: int) -> Answer:
        names = call.request.outputs
        answer = self._codec.decode_answer(reply.payload, self.model, self.stack)
        # Not every server can leave outputs out.
        outputs = tuple(output for output in answer.outputs if output.name in names) if names else answer.outputs
        self._signature.check_answer(outputs, call.rows, names)
        served = self._complete(answer.served, reply.trailing)
        if not call.request.version:
            self.served = served
        # Built: _replace takes twice as long.
        return Answer(outputs, Provenance(*served[:9], backend_us, served.queue_us))

    def _complete(self, served: Provenance, trailing: Metadata) -> Provenance:
        """Fill in what the protocol's replies do not carry."""
        if not served.engine:
            engine, engine_version, precision = self._engine_of(trailing)
            precision = served.precision or precision
            served = served._replace(engine=engine, engine_version=engine_version, precision=precision)
        return self._artifacts.identified(served)


class Attempt:
    """One call at the server, begun again while its key is being renewed."""

    __slots__ = ("_call", "_cancel", "_counted", "_pauses_s", "_payload", "_replica", "_sent_ns")

    def __init__(self, replica: Replica, call: Call, payload: bytes, *, counted: bool) -> None:
        self._replica = replica
        self._counted = counted
        self._call = call
        self._payload = payload
        self._pauses_s = iter(RENEWAL_PAUSES_S)
        self._cancel: Cancel = _nothing
        call.add_done_callback(self._ended)

    def send(self) -> None:
        """Send the request."""
        metadata = self._replica.credentials.metadata()
        self._sent_ns = perf_counter_ns()
        self._cancel = self._replica.channel.call(self._payload, self._call.deadline, metadata, self._replied)

    def _replied(self, reply: Reply) -> None:
        if reply.code is StatusCode.PERMISSION_DENIED and (pause_s := next(self._pauses_s, None)) is not None:
            self._cancel = asyncio.get_running_loop().call_later(pause_s, self._renew).cancel
            return
        outcome = self._replica.outcome(self._call, reply, self._sent_ns)
        if self._counted and not self._replica.retired:
            self._replica.health.record(outcome)
        self._call.end(outcome)

    def _renew(self) -> None:
        self._replica.credentials.reload()
        self.send()

    def _ended(self, _: Outcome) -> None:
        # Deadline passed or caller gone: the server need not go on. A call that was answered cancels nothing.
        self._cancel()


def _nothing() -> None:
    pass
