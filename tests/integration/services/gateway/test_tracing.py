"""Traces over real gRPC, by the real exporter: which span is below which, what they say, who is told of them."""

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from grpc import StatusCode, aio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from servepath.protocols import oip, servepath
from servepath.protocols.errors import BackendUnavailable, BadInput
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane.backend import Call
from services.gateway.server import Gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import running, settings
from tests.limits import LONG_S
from tests.otlp_collector import Collector, attributes, collecting

ONE = """
[gateway]
probe_interval_s = 3600
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
max_in_flight = 1
"""
OTHER = """
[servers.other]
protocol = "oip"
[models.alpha.stacks.other]
"""
TWO = ONE + OTHER
FALLBACK = TWO.replace('default = "onnx"', 'default = "onnx"\nfallback = ["other"]')
SHADOW = f'{TWO}[models.alpha.shadow]\nstack = "other"\npercent = 100\n'
HEDGED = ONE.replace("max_in_flight = 1", "max_merge_rows = 1\nhedge_percent = 5")
TRACE_ID, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE_ID}-{CALLERS_SPAN}-01", f"00-{TRACE_ID}-{CALLERS_SPAN}-00"
METADATA = (("traceparent", SAMPLED), ("tracestate", "vendor=a,other=b"))
# The sampler of these tests, unless they say otherwise: traces are begun by callers alone.
CALLERS_ALONE = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}


@dataclass
class Bench:
    """A gateway that is traced, the servers behind it, and a caller."""

    gateway: Gateway
    channel: aio.Channel
    collector: Collector

    async def ask(self, metadata: Sequence[tuple[str, str]] = METADATA, value: float = 1, name: str = "alpha") -> float:
        """Return the answer to a row whose sum is `value`."""
        request = Request(name, 0, (Tensor("x", "FP32", (1, 2), struct.pack("<2f", value, 0)),), request_id="order-7")
        payload = servepath.encode_request(request, name, 0)
        reply = await self.channel.unary_unary(servepath.METHOD)(payload, timeout=LONG_S, metadata=metadata)
        return float(struct.unpack("<f", servepath.decode_answer(reply).outputs[0].data)[0])

    async def trace(self, tries: int, calls: int = 1) -> tuple[list[Span], list[Span]]:
        """Return the calls' spans and those of their tries, in the order of their beginnings, when all have come."""
        spans = await self.collector.until(lambda spans: len(spans) >= tries + calls)
        spans = sorted(spans, key=lambda span: span.start_time_unix_nano)
        servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
        clients = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
        assert (len(servers), len(clients)) == (calls, tries)
        return servers, clients

    async def metrics(self, accept: str) -> str:
        def read() -> str:
            url = f"http://127.0.0.1:{self.gateway.metrics_port}/metrics"
            with urlopen(HttpRequest(url, headers={"Accept": accept}), timeout=LONG_S) as got:
                return str(got.read().decode())

        return await asyncio.to_thread(read)


@asynccontextmanager
async def traced(
    folder: Path,
    front: str,
    text: str,
    *backends: FakeBackend,
    patch: pytest.MonkeyPatch,
    otel: dict[str, str] = CALLERS_ALONE,
    key: str = "traceparent",
) -> AsyncIterator[Bench]:
    """Run a traced gateway; the last of several backends is the stack `other`, where `text` has it."""
    make_export(folder / "exports", "alpha", "onnx")
    stacks = [await FakeStack(backend, key=key).start() for backend in backends]
    addresses = [stack.address for stack in stacks]
    other = {"other": addresses.pop()} if "servers.other" in text else {}
    try:
        async with collecting() as collector:
            variables = collector.variables | otel
            for name, value in variables.items():
                patch.setenv(name, value)
            used = replace(settings(folder, text, {"onnx": ",".join(addresses), **other}, front), otel=variables)
            async with running(used) as (gateway, _), aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
                members = [
                    member for path in gateway.reloader.routes.paths.values() for member in path.replicas.members
                ]
                async with asyncio.timeout(LONG_S):
                    while not all(member.usable for member in members):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                for backend in backends:
                    backend.calls.clear()
                yield Bench(gateway, channel, collector)
    finally:
        for stack in stacks:
            await stack.stop()


async def test_a_callers_trace_goes_on_in_the_gateway_and_at_the_server(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FakeBackend()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch) as bench:
        assert await bench.ask() == 1
        (server,), (client,) = await bench.trace(tries=1)
        resource, port = bench.collector.resource, client_port(bench)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE_ID, CALLERS_SPAN)
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    assert [call.key for call in backend.calls] == [f"00-{TRACE_ID}-{client.span_id.hex()}-01"]
    assert server.trace_state == client.trace_state == "vendor=a,other=b"
    assert (server.name, client.name) == ("servepath.v1.Gateway/Predict", "inference.GRPCInferenceService/ModelInfer")
    assert attributes(server.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "servepath.v1.Gateway",
        "rpc.method": "Predict",
        "rpc.grpc.status_code": 0,
        "servepath.model": "alpha",
        "servepath.stack": "onnx",
        "servepath.batch_size": 1,
    }
    assert attributes(client.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "server.address": "127.0.0.1",
        "server.port": port,
        "servepath.model": "alpha",
        "servepath.stack": "onnx",
        "servepath.batch_size": 1,
        "servepath.try": 1,
    }
    assert server.status.code == client.status.code == Status.STATUS_CODE_UNSET
    assert server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano
    assert resource["service.name"] == "servepath-gateway"


def client_port(bench: Bench) -> int:
    return int(bench.gateway.reloader.routes.paths["alpha", "onnx"].origin.addresses[0].rpartition(":")[2])


async def test_the_server_gets_the_callers_tracestate(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FakeBackend()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch, key="tracestate") as bench:
        await bench.ask()
    assert [call.key for call in backend.calls] == ["vendor=a,other=b"]


async def test_a_call_by_the_open_inference_protocol_is_traced_too_under_the_name_that_the_environment_gives(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"OTEL_SERVICE_NAME": "edge"}
    async with traced(tmp_path, front, ONE, FakeBackend(), patch=monkeypatch, otel=named) as bench:
        request = Request("alpha", 0, (Tensor("x", "FP32", (1, 2), bytes(8)),))
        await bench.channel.unary_unary(oip.METHOD)(oip.encode_request(request, "alpha", 0), timeout=LONG_S)
        (server,), (client,) = await bench.trace(tries=1)
        assert bench.collector.resource["service.name"] == "edge"
    assert attributes(server.attributes)["rpc.service"] == "inference.GRPCInferenceService"
    assert (server.parent_span_id, client.parent_span_id) == (b"", server.span_id)  # a trace of its own


async def test_a_caller_that_is_not_sampled_has_no_spans_and_its_server_is_told_so(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FakeBackend()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch, otel={}) as bench:
        await bench.ask([("traceparent", UNSAMPLED)])
        collector = bench.collector
    (call,) = backend.calls
    version, trace_id, _, flags = call.key.split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "00")
    assert collector.spans == []


@pytest.mark.parametrize(
    "metadata",
    [
        [("traceparent", "nonsense")],
        [("traceparent", f"00-{'0' * 32}-{CALLERS_SPAN}-01")],
        [("traceparent", f"ff-{TRACE_ID}-{CALLERS_SPAN}-01")],
        [("traceparent", "0" * 5000)],
        [("tracestate", "vendor=a")],
    ],
    ids=["nonsense", "no trace", "no version", "long", "alone"],
)
async def test_a_traceparent_that_is_none_is_ignored(
    tmp_path: Path,
    front: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    metadata: list[tuple[str, str]],
) -> None:
    backend = FakeBackend()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch, otel={}) as bench:
        assert await bench.ask(metadata) == 1
        (server,), _ = await bench.trace(tries=1)
    assert server.parent_span_id == b""
    assert server.trace_id.hex() not in {TRACE_ID, "0" * 32}
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@pytest.mark.parametrize("state", ["=,=", "a" * 2000, "a=b,a=c", f"a={'b' * 255}c"])
async def test_a_tracestate_that_is_none_is_dropped_and_the_trace_goes_on(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    backend = FakeBackend()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch, key="tracestate") as bench:
        assert await bench.ask([("traceparent", SAMPLED), ("tracestate", state)]) == 1
        (server,), _ = await bench.trace(tries=1)
    assert server.trace_id.hex() == TRACE_ID
    assert [call.key for call in backend.calls] == ([state] if state.startswith("a=bb") else [""])
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


class Held(FakeBackend):
    """Keeps the first call until it is let go; what comes meanwhile waits in the gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Call | None = None
        self.armed = False
        self.behave = self._hold_or_answer

    def _hold_or_answer(self, call: Call) -> Answer | None:
        if not self.armed or self.first is not None:
            return self.answer(call)
        self.first = call
        return None

    async def arrived(self) -> Call:
        async with asyncio.timeout(LONG_S):
            while self.first is None:  # noqa: ASYNC110 - a fake tells nobody
                await asyncio.sleep(0.01)
        return self.first


async def test_a_merged_call_is_one_span_linked_with_that_of_each_caller(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Held()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch) as bench:
        backend.armed = True
        alone = asyncio.create_task(bench.ask([]))
        first = await backend.arrived()
        parents = [f"00-{TRACE_ID[:-1]}{digit}-{CALLERS_SPAN}-0{digit != 2:d}" for digit in range(4)]
        merged = [asyncio.create_task(bench.ask([("traceparent", parent)])) for parent in parents]
        async with asyncio.timeout(LONG_S):
            while bench.gateway.reloader.routes.paths["alpha", "onnx"].replicas.queued < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        first.end(backend.answer(first))
        assert await asyncio.gather(alone, *merged) == [1] * 5
        servers, (client,) = await bench.trace(tries=1, calls=3)
    assert attributes(client.attributes)["servepath.batch_size"] == 4
    assert attributes(client.attributes)["servepath.try"] == 1
    assert {link.span_id for link in client.links} == {server.span_id for server in servers}
    assert {link.trace_id for link in client.links} == {server.trace_id for server in servers}
    (parent,) = [server for server in servers if server.span_id == client.parent_span_id]
    assert client.trace_id == parent.trace_id
    others = [server for server in servers if server is not parent]
    assert [[link.span_id for link in server.links] for server in others] == [[client.span_id]] * 2
    assert list(parent.links) == []
    assert backend.calls[-1].key == f"00-{client.trace_id.hex()}-{client.span_id.hex()}-01"


async def test_a_member_of_a_merged_call_that_is_sent_again_counts_that_as_its_second_try(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Held()
    async with traced(tmp_path, front, ONE, backend, patch=monkeypatch) as bench:
        backend.armed = True
        alone = asyncio.create_task(bench.ask([]))
        first = await backend.arrived()
        merged = [asyncio.create_task(bench.ask()) for _ in range(2)]
        async with asyncio.timeout(LONG_S):
            while bench.gateway.reloader.routes.paths["alpha", "onnx"].replicas.queued < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # Somebody's content is at fault, says the server: each is sent again by itself.
        backend.behave = lambda call: (
            backend.answer(call) if call.request.inputs[0].shape[0] == 1 else BadInput("no", "CONTENT")
        )
        first.end(backend.answer(first))
        assert await asyncio.gather(alone, *merged) == [1] * 3
        _, clients = await bench.trace(tries=3, calls=2)
    known = [attributes(client.attributes) for client in clients]
    assert [(each["servepath.batch_size"], each["servepath.try"]) for each in known] == [(2, 1), (1, 2), (1, 2)]


async def test_a_retry_is_a_second_span_below_the_same_call(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = [FakeBackend(), FakeBackend()]
    failed: list[FakeBackend] = []

    def fail_once(backend: FakeBackend, call: Call) -> Answer | BackendUnavailable:
        if failed:
            return backend.answer(call)
        failed.append(backend)
        return BackendUnavailable("gone")

    async with traced(tmp_path, front, ONE, *backends, patch=monkeypatch) as bench:
        for backend in backends:
            backend.behave = lambda call, backend=backend: fail_once(backend, call)  # type: ignore[misc]
        await bench.ask()
        (server,), clients = await bench.trace(tries=2)
    assert [client.parent_span_id for client in clients] == [server.span_id] * 2
    known = [attributes(client.attributes) for client in clients]
    assert [each["servepath.try"] for each in known] == [1, 2]
    assert [each["rpc.grpc.status_code"] for each in known] == [StatusCode.UNAVAILABLE.value[0], 0]
    assert known[0]["error.type"] == "BACKEND_DOWN"
    assert known[0]["server.port"] != known[1]["server.port"]
    assert [client.status.code for client in clients] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]
    assert server.status.code == Status.STATUS_CODE_UNSET


async def test_a_fallback_is_a_span_at_the_other_stack_which_the_call_counts_for(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, other = FakeBackend(), FakeBackend()
    async with traced(tmp_path, front, FALLBACK, failing, other, patch=monkeypatch) as bench:
        failing.behave = lambda _: BackendUnavailable("gone")
        await bench.ask()
        (server,), clients = await bench.trace(tries=2)
    assert [client.parent_span_id for client in clients] == [server.span_id] * 2
    assert [attributes(client.attributes)["servepath.stack"] for client in clients] == ["onnx", "other"]
    assert attributes(server.attributes)["servepath.stack"] == "other"


async def test_a_shadows_call_is_a_span_below_the_call_that_it_repeats(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, shadow = FakeBackend(), FakeBackend()
    async with traced(tmp_path, front, SHADOW, live, shadow, patch=monkeypatch) as bench:
        await bench.ask()
        (server,), (first, repeated) = await bench.trace(tries=2)
    assert first.parent_span_id == repeated.parent_span_id == server.span_id
    assert "servepath.shadow" not in attributes(first.attributes)
    known = attributes(repeated.attributes)
    assert (known["servepath.shadow"], known["servepath.stack"]) == (True, "other")
    assert shadow.calls[0].key == f"00-{TRACE_ID}-{repeated.span_id.hex()}-01"


async def test_a_hedge_is_a_second_span_and_the_first_ends_cancelled(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends, stalls = [FakeBackend(), FakeBackend()], [True]

    def stall_once(backend: FakeBackend, call: Call) -> Answer | None:
        return None if stalls and stalls.pop() else backend.answer(call)

    async with traced(tmp_path, front, HEDGED, *backends, patch=monkeypatch) as bench:
        for _ in range(100):
            await bench.ask([])  # earns second tries, and is not sampled
        for backend in backends:
            backend.behave = lambda call, backend=backend: stall_once(backend, call)  # type: ignore[misc]
        await bench.ask()
        (server,), (first, second) = await bench.trace(tries=2)
    assert first.parent_span_id == second.parent_span_id == server.span_id
    codes = [attributes(client.attributes)["rpc.grpc.status_code"] for client in (first, second)]
    assert codes == [StatusCode.CANCELLED.value[0], 0]
    assert first.status.code == Status.STATUS_CODE_UNSET
    assert first.start_time_unix_nano < second.start_time_unix_nano < first.end_time_unix_nano


async def test_a_call_that_fails_says_how_in_its_span_and_its_trace_in_the_log(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with traced(tmp_path, front, ONE, backend := FakeBackend(), patch=monkeypatch) as bench:
        backend.behave = lambda _: BackendUnavailable("gone")
        with pytest.raises(aio.AioRpcError):
            await bench.ask()
        with pytest.raises(aio.AioRpcError):
            await bench.ask(name="alpha@nowhere")
        (failed, refused), (client,) = await bench.trace(tries=1, calls=2)
    assert failed.status.code == client.status.code == Status.STATUS_CODE_ERROR
    known = attributes(failed.attributes)
    assert (known["rpc.grpc.status_code"], known["error.type"]) == (StatusCode.UNAVAILABLE.value[0], "BACKEND_DOWN")
    known = attributes(refused.attributes)
    assert (known["rpc.grpc.status_code"], known["servepath.model"]) == (StatusCode.NOT_FOUND.value[0], "_unknown")
    assert refused.status.code == Status.STATUS_CODE_UNSET  # the caller's fault
    lines = [json.loads(each.getMessage()) for each in caplog.records if each.name == "services.gateway.failure_log"]
    assert [line["trace_id"] for line in lines] == [TRACE_ID] * 2


async def test_a_message_that_cannot_be_read_has_a_span(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, front, ONE, FakeBackend(), patch=monkeypatch) as bench:
        with pytest.raises(aio.AioRpcError):
            await bench.channel.unary_unary(servepath.METHOD)(b"\xff", timeout=LONG_S, metadata=METADATA)
        (server,), _ = await bench.trace(tries=0)
    assert attributes(server.attributes)["rpc.grpc.status_code"] == StatusCode.INVALID_ARGUMENT.value[0]
    assert attributes(server.attributes)["error.type"].startswith(BadInput("", "MESSAGE").reason)


async def test_durations_have_the_traces_of_calls_as_exemplars_in_open_metrics_alone(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(tmp_path, front, ONE, FakeBackend(), patch=monkeypatch) as bench:
        await bench.ask()
        await bench.ask([])  # not sampled: no exemplar
        (server,), _ = await bench.trace(tries=1)
        text = await bench.metrics("application/openmetrics-text; version=1.0.0")
        assert TRACE_ID not in await bench.metrics("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    for name in ("request_duration", "backend_duration", "gateway_overhead", "queue_wait"):
        labels = {"model": "alpha", "stack": "onnx"}
        samples = [
            each for each in families[f"servepath_{name}_seconds"].samples if labels.items() <= each.labels.items()
        ]
        buckets = [each for each in samples if each.name.endswith("_bucket")]
        (at,) = [place for place, each in enumerate(buckets) if each.exemplar]
        exemplar = buckets[at].exemplar
        assert exemplar.labels == {"trace_id": TRACE_ID, "span_id": server.span_id.hex()}
        below, above = (float(buckets[place].labels["le"]) if place >= 0 else -1 for place in (at - 1, at))
        assert below < exemplar.value <= above
        assert buckets[at].value > (buckets[at - 1].value if at else 0)  # it was counted there


async def test_a_collector_that_does_not_answer_costs_no_call_and_delays_no_stop(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    patient = {**CALLERS_ALONE, "OTEL_EXPORTER_OTLP_TIMEOUT": str(LONG_S)}
    async with asyncio.timeout(LONG_S):
        async with traced(tmp_path, front, ONE, FakeBackend(), patch=monkeypatch, otel=patient) as bench:
            bench.collector.silent = True
            for value in range(100):
                assert await bench.ask(value=value) == value
            await bench.collector.asked.wait()
            collector = bench.collector
            async with asyncio.timeout(25):  # the SDK's own bound is 30 s
                await bench.gateway.stop_tracing()
    assert collector.spans == []
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR and "services" in each.name]


async def test_without_a_collector_calls_are_answered_and_the_gateway_ends_the_export_that_is_under_way(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = {**CALLERS_ALONE, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with asyncio.timeout(LONG_S):
        async with traced(tmp_path, front, ONE, FakeBackend(), patch=monkeypatch, otel=nowhere) as bench:
            for value in range(100):
                assert await bench.ask(value=value) == value
    assert "Exporter already shutdown, ignoring call" in caplog.messages  # the SDK's own end came after the gateway's


async def test_a_call_whose_deadline_passes_at_the_server_says_so_in_both_spans(
    tmp_path: Path, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ONE.replace("[gateway]", "[gateway]\ndefault_deadline_s = 0.3")
    async with traced(tmp_path, front, short, backend := FakeBackend(), patch=monkeypatch) as bench:
        backend.behave = lambda _: None
        request = Request("alpha", 0, (Tensor("x", "FP32", (1, 2), bytes(8)),))
        payload = servepath.encode_request(request, "alpha", 0)
        with pytest.raises(aio.AioRpcError):
            await bench.channel.unary_unary(servepath.METHOD)(payload, metadata=METADATA)  # without a deadline
        (server,), (client,) = await bench.trace(tries=1)
    for span in (server, client):
        assert attributes(span.attributes)["rpc.grpc.status_code"] == StatusCode.DEADLINE_EXCEEDED.value[0]
        assert span.status.code == Status.STATUS_CODE_ERROR
