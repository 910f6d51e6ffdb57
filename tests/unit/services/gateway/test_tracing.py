from pathlib import Path

import pytest
from grpc import StatusCode
from prometheus_client import CollectorRegistry

from servepath.http2.drivers.asyncio_channel import Cancel
from servepath.http2.replies import Metadata, Reply
from servepath.protocols.codecs import STACK_CODECS
from servepath.protocols.errors import BackendUnavailable
from servepath.protocols.identity import engine_of
from servepath.protocols.signature import Signature
from servepath.protocols.stacks import PATH_STACKS, service_files
from servepath.protocols.token import TokenFile
from services.gateway.artifacts import Artifacts
from services.gateway.metrics import Metrics
from services.gateway.tracing import CallTrace, TracedReplica, Tracing
from tests.exports import make_export
from tests.manifests import SPEC
from tests.serving_fakes import Raw, call

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Channel:
    """Keeps what it is given, and refuses each call."""

    def __init__(self) -> None:
        self.metadata: list[Metadata] = []

    def call(self, _message: bytes, _deadline: float, metadata: Metadata, done: object) -> Cancel:
        self.metadata.append(metadata)
        done(Reply(StatusCode.UNAVAILABLE, "gone"))  # type: ignore[operator]
        return lambda: None


@pytest.fixture
def tracing() -> Tracing:
    return Tracing(Metrics(CollectorRegistry()))


def raw(**metadata: str) -> Raw:
    made = Raw(b"")
    made.metadata = metadata
    return made


@pytest.mark.parametrize("stack", STACK_CODECS)
def test_every_stacks_server_gets_the_traceparent_beside_its_key(tracing: Tracing, tmp_path: Path, stack: str) -> None:
    known = PATH_STACKS[stack]
    make_export(tmp_path, "m", known.artifact_format)
    (tmp_path / "token").write_text("key")
    replica = TracedReplica(
        tracing,
        model="m",
        stack=stack,
        called="m",
        address="unix:/run/server",
        codec=STACK_CODECS[stack],
        signature=Signature(SPEC, 1000),
        artifacts=Artifacts(tmp_path, "m", known.artifact_format),
        max_message_bytes=1000,
        credentials=TokenFile(tmp_path / "token"),
        engine_of=engine_of(known, service_files({}, tmp_path)),
    )
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


@pytest.mark.parametrize("state", ["a=é", "a=\x7f", "a=\u0662", "é=a"])
def test_what_no_header_may_have_goes_to_no_server(tracing: Tracing, state: str) -> None:
    trace = tracing.begin(raw(traceparent=TRACEPARENT, tracestate=state))
    assert trace.trace_id == TRACE_ID
    assert trace.context.trace_state.to_header() == ""


def test_a_repeated_call_belongs_below_the_same_span(tracing: Tracing) -> None:
    trace = tracing.begin(raw())
    repeated: CallTrace = trace.repeated()
    assert (repeated.span, repeated.shadow, trace.shadow) == (trace.span, True, False)
