"""One timed gRPC call: what is sent where, and the sample that comes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import gevent
from grpc import StatusCode

from loadtest.connection import Answered, Client
from loadtest.payloads import Payload
from loadtest.plan import Measurement
from loadtest.recorder import Sample
from servepath.http2.replies import Metadata
from servepath.protocols.errors import ServeError
from servepath.protocols.probes import fault
from servepath.protocols.token import RENEWAL_PAUSES_S
from servepath.protocols.types import Answer, Request

DEADLINE_S = 5.0


class RefusedCallError(Exception):
    """A call that ended with a code and not with an answer. code: gRPC's name of it. details: the server's words."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code} {details}".strip())
        self.code = code
        self.details = details


class Clock:
    """Nanoseconds since 1970 that only go forward: the wall clock once, a monotonic one from there."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.perf_counter_ns()

    def now_ns(self) -> int:
        """Return the time."""
        return time.perf_counter_ns() + self._offset_ns

    def perf_counter_ns(self, now_ns: int) -> int:
        """Return the value of time.perf_counter_ns() at a moment of this clock."""
        return now_ns - self._offset_ns

    def drift_us(self) -> float:
        """Return the wall clock's drift from this clock since the start: it was slewed or set."""
        return (time.time_ns() - self.now_ns()) / 1e3


@dataclass(frozen=True, slots=True)
class Target:
    """One way to one path.

    method: full gRPC method. model: the name to ask for there. encode(request, model, version) and decode(reply,
    trailing metadata) speak its protocol. metadata: gives what to send along. refused: called on PERMISSION_DENIED.
    """

    measurement: Measurement
    address: str
    method: str
    model: str
    encode: Callable[[Request, str, int], bytes]
    decode: Callable[[bytes, Metadata], Answer]
    metadata: Callable[[], Metadata]
    refused: Callable[[], object]


class Caller:
    """One caller with a connection of its own, for one request or many at once; close() it."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._client = Client(target.address, target.method)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self, payload: Payload) -> Sample:
        """Send one request and time it until its reply is here; reading and checking the reply are not timed."""
        sent_ns = self._clock.now_ns()
        reply, received_ns = self._call(payload)
        service_us = (received_ns - self._clock.perf_counter_ns(sent_ns)) / 1e3
        if reply.code is not StatusCode.OK:
            failed = Sample(sent_ns, service_us, ok=False, code=reply.code.name, wrong=False, rows=payload.rows)
            return failed._replace(request_bytes=len(payload.request))
        return self._read(reply.payload, reply.trailing, payload, sent_ns, service_us)

    def answer(self, payload: Payload) -> Answer:
        """Send one request and return its answer, unchecked and untimed.

        Raises RefusedCallError for a code other than OK, ServeError for a reply that cannot be read.
        """
        reply = self._call(payload).reply
        if reply.code is not StatusCode.OK:
            raise RefusedCallError(reply.code.name, reply.details)
        return self._target.decode(reply.payload, reply.trailing)

    def _call(self, payload: Payload) -> Answered:
        """Send until it is not for its key that the call is refused; the time of that counts as service time."""
        for pause_s in RENEWAL_PAUSES_S:
            answered = self._send(payload)
            if answered.reply.code is not StatusCode.PERMISSION_DENIED:
                return answered
            gevent.sleep(pause_s)
            self._target.refused()
        return self._send(payload)

    def _send(self, payload: Payload) -> Answered:
        return self._client.call(payload.request, self._target.metadata(), DEADLINE_S)

    def _read(
        self,
        reply: bytes,
        trailing: Metadata,
        payload: Payload,
        sent_ns: int,
        service_us: float,
    ) -> Sample:
        try:
            answer = self._target.decode(reply, trailing)
        except ServeError as error:
            unread = Sample(sent_ns, service_us, ok=False, code=error.reason, wrong=False, rows=payload.rows)
            return unread._replace(request_bytes=len(payload.request), reply_bytes=len(reply))
        served = answer.served
        through_gateway = self._target.measurement.via == "gateway"
        return Sample(
            sent_ns,
            service_us,
            ok=True,
            code="OK",
            wrong=not is_right(self._target, answer, payload),
            rows=payload.rows,
            version=served.version,
            sha256=served.sha256,
            engine=served.engine,
            engine_version=served.engine_version,
            precision=served.precision,
            gateway_us=served.gateway_us if through_gateway else None,
            backend_us=served.backend_us if through_gateway else None,
            queue_us=served.queue_us if through_gateway else None,
            request_bytes=len(payload.request),
            reply_bytes=len(reply),
        )


def is_right(target: Target, answer: Answer, payload: Payload) -> bool:
    """Return whether an answer is the expected one, and from the path that was called."""
    served = answer.served
    return (served.model, served.stack) == target.measurement.path and not fault(answer.outputs, payload.expected)
