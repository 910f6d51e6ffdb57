import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from opentelemetry.trace import Span
from prometheus_client import CollectorRegistry

from servepath.http2.drivers.asyncio_channel import Cancel
from servepath.http2.replies import Metadata, Reply
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.errors import BackendUnavailable, DeadlineExceeded, DeadlineStage
from servepath.protocols.identity import engine_of
from servepath.protocols.signature import Signature
from servepath.protocols.stacks import PATH_STACKS, service_files
from servepath.protocols.token import TokenFile
from services.dataplane.backend import Call
from services.gateway.artifacts import Artifacts
from services.gateway.metrics import Metrics
from services.gateway.tracing import MAX_TRACESTATE, CallTrace, TracedReplica, Tracing
from tests.exports import make_export
from tests.limits import LONG_S
from tests.manifests import SPEC
from tests.serving_fakes import Raw, call

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Channel:
    """Keeps what it is given, and refuses each call; or the first one for its key, and answers no other."""

    def __init__(self, *, key_is_old: bool = False) -> None:
        self.metadata: list[Metadata] = []
        self.asked_again = asyncio.Event()
        self._key_is_old = key_is_old

    def call(self, _message: bytes, _deadline: float, metadata: Metadata, done: Callable[[Reply], None]) -> Cancel:
        self.metadata.append(metadata)
        if len(self.metadata) == 1 or not self._key_is_old:
            done(Reply(StatusCode.PERMISSION_DENIED if self._key_is_old else StatusCode.UNAVAILABLE, "gone"))
        else:
            self.asked_again.set()
        return lambda: None


class Keeping(Tracing):
    """Keeps the spans of tries."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(metrics)
        self.tries: list[Any] = []

    def begin_try(self, replica: TracedReplica, call: Call) -> Span | None:
        self.tries.append(span := super().begin_try(replica, call))
        return span


@pytest.fixture
def tracing() -> Tracing:
    return Tracing(Metrics(CollectorRegistry()))


def raw(**metadata: str) -> Raw:
    made = Raw(b"")
    made.metadata = metadata
    return made


def traced_replica(tracing: Tracing, folder: Path, stack: str = "onnx") -> TracedReplica:
    """Return the replica of a server that takes a key."""
    known = PATH_STACKS[stack]
    make_export(folder, "m", known.artifact_format)
    (folder / "token").write_text("key")
    return TracedReplica(
        tracing,
        model="m",
        stack=stack,
        called="m",
        address="unix:/run/server",
        codec=STACK_CODECS[stack],
        signature=Signature(SPEC, 1000),
        artifacts=Artifacts(folder, "m", known.artifact_format),
        max_message_bytes=1000,
        credentials=TokenFile(folder / "token"),
        engine_of=engine_of(known, service_files({}, folder)),
    )


@pytest.mark.parametrize("stack", STACK_CODECS)
def test_every_stacks_server_gets_the_traceparent_beside_its_key(tracing: Tracing, tmp_path: Path, stack: str) -> None:
    replica = traced_replica(tracing, tmp_path, stack)
    channel = Channel()
    replica.channel = channel  # type: ignore[assignment]
    traced, own = call(), call()
    traced.trace = tracing.begin(raw(traceparent=TRACEPARENT, tracestate="vendor=a"))
    for each in (traced, own):
        replica.submit(each)
        assert isinstance(each.outcome, BackendUnavailable)
    first, second = (dict(metadata) for metadata in channel.metadata)
    assert first.pop("traceparent").startswith(f"00-{TRACE_ID}-")
    assert first == {"authorization": "Bearer key", "tracestate": "vendor=a"}
    assert second == {"authorization": "Bearer key"}  # a call of the gateway's own, such as a probe


async def test_a_call_that_ends_after_its_key_was_renewed_is_not_said_to_be_refused_for_its_key(
    tmp_path: Path,
) -> None:
    tracing = Keeping(Metrics(CollectorRegistry()))
    replica, channel, traced = traced_replica(tracing, tmp_path), Channel(key_is_old=True), call()
    replica.channel = channel  # type: ignore[assignment]
    traced.trace = tracing.begin(raw(traceparent=TRACEPARENT))
    replica.submit(traced)
    async with asyncio.timeout(LONG_S):
        await channel.asked_again.wait()
    traced.end(DeadlineExceeded(DeadlineStage.IN_BACKEND))
    (span,) = tracing.tries
    assert span.attributes["rpc.grpc.status_code"] == StatusCode.DEADLINE_EXCEEDED.value[0]


@pytest.mark.parametrize("state", ["a=é", "a=\x7f", "a=\u0662", "é=a"])
def test_what_no_header_may_have_goes_to_no_server(tracing: Tracing, state: str) -> None:
    trace = tracing.begin(raw(traceparent=TRACEPARENT, tracestate=state))
    assert trace.trace_id == TRACE_ID
    assert trace.context.trace_state.to_header() == ""


@pytest.mark.parametrize(("length", "kept"), [(MAX_TRACESTATE, True), (MAX_TRACESTATE + 1, False)])
def test_a_longer_tracestate_than_everybody_passes_on_is_dropped_and_the_trace_goes_on(
    tracing: Tracing, length: int, *, kept: bool
) -> None:
    state = ",".join((f"a={'b' * 250}", f"c={'d' * 200}", f"e={'f' * (length - 458)}"))
    assert len(state) == length
    trace = tracing.begin(raw(traceparent=TRACEPARENT, tracestate=state))
    assert trace.trace_id == TRACE_ID
    assert trace.context.trace_state.to_header() == (state if kept else "")


def test_a_repeated_call_belongs_below_the_same_span(tracing: Tracing) -> None:
    trace = tracing.begin(raw())
    repeated: CallTrace = trace.repeated()
    assert (repeated.span, repeated.shadow, trace.shadow) == (trace.span, True, False)
