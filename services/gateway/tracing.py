"""Spans by OpenTelemetry: one of each call, as its server, and below it one of each try at a path's server.

telemetry.py imports this where calls are traced, and nobody else does (ADR 37).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from time import perf_counter_ns, time_ns
from typing import Any, cast

from grpc import StatusCode
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, format_span_id, format_trace_id, set_span_in_context
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from servepath.http2.replies import Reply
from servepath.protocols import addresses
from servepath.protocols.errors import Cancelled, ServeError
from servepath.protocols.status import code_of
from servepath.protocols.types import Request
from services.dataplane.backend import Backend, Call, Outcome
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher
from services.dataplane.data_plane import Codec, DataPlane
from services.dataplane.listener import RawCall
from services.gateway.call_parts import CallParts
from services.gateway.metrics import Metrics
from services.gateway.replica import Attempt, Replica

log = logging.getLogger(__name__)
NAME = "servepath-gateway"
# What a stop waits for the last spans to leave.
STOP_S = 1.0
MODEL, STACK, ROWS = "servepath.model", "servepath.stack", "servepath.batch_size"
STATUS_CODE, ERROR_TYPE = "rpc.grpc.status_code", "error.type"
# By OpenTelemetry's conventions for gRPC the other codes are no error of a server.
SERVER_FAULTS = frozenset(
    {
        *(StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNIMPLEMENTED, StatusCode.INTERNAL),
        *(StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS),
    }
)
W3C = TraceContextTextMapPropagator()
NO_PARENT = Context()
# What W3C has everybody pass on. A longer one may take a call's headers beyond what its server accepts, and with it the
# other calls of a merged one.
MAX_TRACESTATE = 512
# They write what a caller sent, one line per call.
OF_CALLERS = ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext")
# It writes a header of the collector's that it cannot read, which may be a key.
OF_HEADERS = "opentelemetry.util.re"


class CallTrace:
    """Where the spans of a call's tries belong.

    span: what they are below. members: of a merged call, where its members' belong; they are linked. shadow: whether
    the call repeats another one on a shadow's path. tries: how many there have been.
    """

    __slots__ = ("context", "members", "shadow", "span", "tries")

    def __init__(self, span: Span, members: Sequence["CallTrace"] = (), *, shadow: bool = False) -> None:
        self.span = span
        self.context = span.get_span_context()
        self.members = members
        self.shadow = shadow
        self.tries = 0

    @property
    def trace_id(self) -> str:
        """Return the trace's id, 32 hexadecimal digits."""
        return format_trace_id(self.context.trace_id)

    @property
    def sampled(self) -> bool:
        """Return whether its spans are kept."""
        return self.context.trace_flags.sampled

    def repeated(self) -> "CallTrace":
        """Return where the spans of a call that repeats this one belong: below the same span."""
        return CallTrace(self.span, shadow=True)


class Tracing:
    """Makes spans, and what calls go through when they have some."""

    def __init__(self, metrics: Metrics) -> None:
        """Read the environment. Raises Exception for a variable that cannot be used."""
        for name in OF_CALLERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(OF_HEADERS).addFilter(_without_header)
        self._metrics = metrics
        named = Resource({SERVICE_NAME: NAME}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=Resource.create().merge(named), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter()
        self._processor: BatchSpanProcessor | None = None
        self._tracer = self._provider.get_tracer("servepath.gateway")

    def parts(self) -> CallParts:
        """Return what calls go through."""
        made = partial(TracedDataPlane, self), TracedBatcher, partial(TracedReplica, self)
        return CallParts(*made, self.start, self.stop)

    def start(self) -> None:
        """Export spans from now on, on a thread of its own. Raises nothing."""
        try:
            self._processor = BatchSpanProcessor(self._exporter)
        except ValueError as error:  # it reads its variables now
            log.warning("no span is exported: a variable OTEL_BSP_* cannot be used: %s", error)
        else:
            self._provider.add_span_processor(self._processor)
            log.info("calls are traced")

    async def stop(self) -> None:
        """Export what there is, as far as the collector takes it within STOP_S."""
        if self._processor is None:
            return
        ending = asyncio.create_task(asyncio.to_thread(self._processor.shutdown))
        if not (await asyncio.wait({ending}, timeout=STOP_S))[0]:
            self._exporter.shutdown()  # ends the export that is under way, and those after it
        await ending

    def begin(self, raw: RawCall) -> CallTrace:
        """Begin the span of a call, below the one that its caller names."""
        began, metadata = time_ns(), raw.metadata
        if len(metadata.get("tracestate", "")) > MAX_TRACESTATE:
            metadata = {name: value for name, value in metadata.items() if name != "tracestate"}
        parent = W3C.extract(metadata, NO_PARENT) if "traceparent" in metadata else NO_PARENT
        name, attributes = rpc(raw.method)
        return CallTrace(self._tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=began))

    def refused(self, raw: RawCall, error: ServeError) -> None:
        """Make the span of a call that was refused as it came."""
        span = self.begin(raw).span
        _end(span, code_of(error), error, failed=code_of(error) in SERVER_FAULTS)

    def completed(
        self, on_complete: Callable[[Call | None, Outcome], Outcome], call: Call | None, outcome: Outcome
    ) -> Outcome:
        """Complete a call as it is done without traces, and end its span."""
        outcome = on_complete(call, outcome)
        if call is None:
            return outcome
        trace = cast("CallTrace", call.trace)
        if trace.sampled:
            model, stack = self._metrics.labels_of(call)
            trace.span.set_attributes({MODEL: model, STACK: stack, ROWS: call.rows})
            code = code_of(outcome) if isinstance(outcome, ServeError) else StatusCode.OK
            _end(trace.span, code, outcome, failed=code in SERVER_FAULTS)
            ids = {"trace_id": trace.trace_id, "span_id": format_span_id(trace.context.span_id)}
            self._metrics.exemplify(call, outcome, ids)
        return outcome

    def begin_try(self, replica: "TracedReplica", call: Call) -> Span | None:
        """Begin the span of a call at a server; None for a call of the gateway's own."""
        trace = cast("CallTrace | None", call.trace)
        if trace is None:
            return None
        if not trace.sampled:
            return trace.span
        tried = trace.members or (trace,)
        for each in tried:
            each.tries += 1
        members = [member for member in trace.members if member.sampled]
        attributes: dict[str, AttributeValue] = {**replica.attributes, ROWS: call.rows}
        attributes["servepath.try"] = max(each.tries for each in tried)
        if trace.shadow:
            attributes["servepath.shadow"] = True
        below = set_span_in_context(trace.span, NO_PARENT)
        links = [Link(member.context) for member in members]
        span = self._tracer.start_span(replica.span_name, below, SpanKind.CLIENT, attributes, links)
        for member in members:
            if member.span is not trace.span and member.span.is_recording():  # that of a shadow's call has ended
                member.span.add_link(span.get_span_context())
        return span


class TracedDataPlane(DataPlane):
    """A data plane each of whose calls has a span."""

    def __init__(
        self,
        tracing: Tracing,
        backend: Backend,
        codecs: Mapping[str, Codec],
        on_complete: Callable[[Call | None, Outcome], Outcome],
        batch_scope: BatchScope,
    ) -> None:
        super().__init__(backend, codecs, partial(tracing.completed, on_complete), batch_scope)
        self._tracing = tracing

    def _read(self, raw: RawCall, codec: Codec) -> Request | ServeError:
        read = super()._read(raw, codec)
        if isinstance(read, ServeError):
            self._tracing.refused(raw, read)
        return read

    def _submit(self, raw: RawCall, codec: Codec, call: Call) -> None:
        call.trace = self._tracing.begin(raw)
        super()._submit(raw, codec, call)


class TracedBatcher(Batcher):
    """A batcher whose merged calls belong to the traces of their members: below the first one's span, and linked."""

    def _merged(self, members: Sequence[Call]) -> Call:
        merged = super()._merged(members)
        traces = [cast("CallTrace", member.trace) for member in members]
        first = next((trace for trace in traces if trace.sampled), traces[0])
        merged.trace = CallTrace(first.span, traces, shadow=all(trace.shadow for trace in traces))
        return merged


class TracedReplica(Replica):
    """A replica whose callers' calls have spans, and name them to the server."""

    def __init__(self, tracing: Tracing, **known: Any) -> None:
        super().__init__(**known)
        self.span_name, attributes = rpc(self._codec.METHOD)
        self.attributes = {**attributes, **_place(self.address), MODEL: self.model, STACK: self.stack}
        self.attempt = partial(TracedAttempt, tracing)


class TracedAttempt(Attempt):
    """A call at the server, with its span."""

    __slots__ = ("_code", "_headers", "_span")

    def __init__(self, tracing: Tracing, replica: TracedReplica, call: Call, payload: bytes, *, counted: bool) -> None:
        super().__init__(replica, call, payload, counted=counted)
        self._code: StatusCode | None = None  # the server's own
        self._span = tracing.begin_try(replica, call)
        headers: dict[str, str] = {}
        if self._span is not None:
            W3C.inject(headers, set_span_in_context(self._span, NO_PARENT))
        self._headers = tuple(headers.items())

    def send(self) -> None:
        """Send the request, and with it the span that the server's are below."""
        metadata = (*self._replica.credentials.metadata(), *self._headers)
        self._code = None
        self._sent_ns = perf_counter_ns()
        self._cancel = self._replica.channel.call(self._payload, self._call.deadline, metadata, self._replied)

    def _replied(self, reply: Reply) -> None:
        self._code = reply.code
        super()._replied(reply)

    def _ended(self, outcome: Outcome) -> None:
        super()._ended(outcome)
        if self._span is not None:
            code, failed = self._code, isinstance(outcome, ServeError) and not isinstance(outcome, Cancelled)
            if code is None:  # the call has ended without it: by its deadline, or another replica's answer
                code = code_of(outcome) if isinstance(outcome, ServeError) else StatusCode.CANCELLED
            _end(self._span, code, outcome, failed=failed)


def _without_header(record: logging.LogRecord) -> bool:
    """Put words without the header into a line about it, and keep the line."""
    record.msg, record.args = "a header in OTEL_EXPORTER_OTLP_*HEADERS is not NAME=VALUE, and is not sent", ()
    return True


@cache
def rpc(method: str) -> tuple[str, dict[str, AttributeValue]]:
    """Return a span's name and its attributes for /SERVICE/METHOD."""
    _, service, name = method.split("/")
    return f"{service}/{name}", {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _place(address: str) -> dict[str, AttributeValue]:
    """Return the attributes of a server's address."""
    if path := addresses.socket_path(address):
        return {"server.address": str(path)}
    host, port = addresses.host_port(address)
    return {"server.address": host, "server.port": port}


def _end(span: Span, code: StatusCode, outcome: Outcome, *, failed: bool) -> None:
    """End a span. What a server or a caller wrote is never in it."""
    span.set_attribute(STATUS_CODE, code.value[0])
    if isinstance(outcome, ServeError):
        span.set_attribute(ERROR_TYPE, outcome.reason)
    if failed:
        span.set_status(Status(SpanStatus.ERROR))
    span.end()
