"""The gateway in process, in front of a real gRPC server that answers or errs on demand."""

import asyncio
import re
import struct
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath.artifacts.manifest import Manifest
from servepath.protocols import errors, oip, servepath
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.oip import oip_pb2
from servepath_pb.servepath.v1 import gateway_pb2
from services.dataplane.backend import Call
from services.gateway.config import Settings
from services.gateway.probe import LIVENESS, READINESS
from services.gateway.server import Gateway, create_gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.golden_rows import make_reference
from tests.limits import LONG_S
from tests.ports import free_ports

DEPLOYMENTS = """
[gateway]
default_deadline_s = 5
drain_s = 2
probe_interval_s = 0.05
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
max_in_flight = 2
max_queue = 1
"""


def x(*values: float, name: str = "x", dtype: str = "FP32", shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(
        name, dtype, (len(values) // 2, 2) if shape is None else shape, struct.pack(f"<{len(values)}f", *values)
    )


def ask(*inputs: Tensor, model: str = "alpha", version: int = 0, **more: Any) -> Request:
    return Request(model, version, inputs or (x(1, 2),), **more)


def floats(answer: Answer) -> list[float]:
    data = answer.outputs[0].data
    return list(struct.unpack(f"<{len(data) // 4}f", data))


@dataclass
class Bench:
    """A gateway, the stack behind it, and a channel to it."""

    gateway: Gateway
    stack: FakeStack
    channel: aio.Channel
    manifest: Manifest
    exports: Path

    @property
    def backend(self) -> FakeBackend:
        return self.stack.backend

    async def predict(self, request: Request, timeout_s: float = LONG_S) -> Answer:
        call = self.channel.unary_unary(servepath.METHOD)
        payload = servepath.encode_request(request, request.model, request.version)
        return servepath.decode_answer(await call(payload, timeout=timeout_s))

    async def infer(self, request: Request) -> Answer:
        call = self.channel.unary_unary(oip.METHOD)
        return oip.decode_answer(await call(oip.encode_request(request, request.model, request.version)), "", "")

    async def refusal(self, request: Request | bytes, timeout_s: float = LONG_S) -> tuple[StatusCode, str, str]:
        payload = (
            request if isinstance(request, bytes) else servepath.encode_request(request, request.model, request.version)
        )
        with pytest.raises(aio.AioRpcError) as caught:
            await self.channel.unary_unary(servepath.METHOD)(payload, timeout=timeout_s)
        return caught.value.code(), reason_of(caught.value), caught.value.details() or ""

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.metrics_port}/metrics", timeout=LONG_S) as reply:
            return reply.read().decode()


def reason_of(error: aio.AioRpcError) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = ErrorInfo()
            Status.FromString(value).details[0].Unpack(info)
            return info.reason
    return ""


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            found = condition()
            if (await found) if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def bench(tmp_path: Path, front: str) -> AsyncIterator[Bench]:
    exports = tmp_path / "exports"
    manifest = make_export(exports, "alpha", "onnx")
    stack = await FakeStack(FakeBackend(bias=7), free_ports(1)[0]).start()
    deployments = tmp_path / "deployments.toml"
    deployments.write_text(DEPLOYMENTS)
    addresses = {"onnx": stack.address, "torchserve": "127.0.0.1:1", "tfserving": "127.0.0.1:1"}
    settings = Settings(
        deployments=deployments,
        exports=exports,
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=True,
        addresses=addresses,
        files=service_files({}, tmp_path),
        front=front,
    )
    gateway = await create_gateway(settings)
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        bench = Bench(gateway, stack, channel, manifest, exports)
        await until(gateway.backend.ready)
        yield bench
    await gateway.drain()
    await gateway.close()
    await stack.stop()


async def test_a_prediction_is_answered_with_its_origin_and_its_time(bench: Bench) -> None:
    answer = await bench.predict(ask(x(1, 2, 3, 4), model="alpha@onnx"))
    assert floats(answer) == [12, 18]
    served = answer.served
    assert (served.model, served.stack, served.engine, served.version) == ("alpha", "onnx", "fake", 1)
    assert served.sha256 == bench.manifest.sha256
    assert not served.sha256_observed
    assert served.backend_us > 0
    assert served.gateway_us > 0


async def test_outputs_that_were_not_asked_for_are_left_out(bench: Bench) -> None:
    def more(call: Call) -> Answer:
        answer = bench.backend.answer(call)
        return answer._replace(outputs=(Tensor("more", "FP32", (1, 1), bytes(4)), *answer.outputs))

    bench.backend.behave = more
    answer = await bench.predict(ask(outputs=("y",)))
    assert [tensor.name for tensor in answer.outputs] == ["y"]
    assert floats(answer) == [12]


async def test_an_answer_without_a_version_is_refused_with_the_reason(bench: Bench) -> None:
    bench.backend.served = bench.backend.served._replace(version=0)
    code, reason, text = await bench.refusal(ask())
    assert (code, reason) == (StatusCode.INTERNAL, "BACKEND_BAD_REPLY")
    assert text == "onnx does not say which version answered, so nobody can say what it is"


async def listed(bench: Bench) -> gateway_pb2.Path:
    reply = await bench.channel.unary_unary(servepath.LIST_PATHS)(b"", timeout=LONG_S)
    (path,) = gateway_pb2.ListPathsResponse.FromString(reply).paths
    return path


async def listing(bench: Bench, condition: Callable[[gateway_pb2.Path], bool]) -> None:
    async def holds() -> bool:
        return condition(await listed(bench))

    await until(holds)


async def test_a_server_that_answers_another_model_is_refused_until_it_does_not(bench: Bench) -> None:
    make_reference(bench.exports, "alpha", bias=7)
    bench.backend.served = bench.backend.served._replace(engine_version="1")
    await listing(bench, lambda path: path.HasField("difference"))
    assert (await listed(bench)).difference < 1e-5
    bench.backend.served, bench.backend.bias = bench.backend.served._replace(engine_version="2"), 8
    await listing(bench, lambda path: bool(path.refused))
    code, reason, text = await bench.refusal(ask())
    assert (code, reason) == (StatusCode.INTERNAL, "BACKEND_BAD_REPLY")
    assert text.startswith("alpha@onnx is refused: output 'y' is [")
    path = await listed(bench)
    assert (path.ready, path.difference) == (False, 1.0)
    bench.backend.served, bench.backend.bias = bench.backend.served._replace(engine_version="3"), 7
    await until(bench.gateway.backend.ready)
    assert floats(await bench.predict(ask())) == [12]
    assert (await listed(bench)).refused == ""


async def test_a_server_whose_batches_differ_gets_each_request_alone(bench: Bench) -> None:
    make_reference(bench.exports, "alpha", bias=7)

    def differ(call: Call) -> Answer:
        bench.backend.bias = 7 + (call.request.inputs[0].shape[0] > 1)
        return bench.backend.answer(call)

    bench.backend.behave = differ
    bench.backend.served = bench.backend.served._replace(engine_version="1")
    await listing(bench, lambda path: bool(path.unbatched))
    path = await listed(bench)
    assert re.match(r"in a batch of \d+ rows, output 'y' is \[", path.unbatched)
    await until(bench.gateway.backend.ready)
    answers = await asyncio.gather(*(bench.predict(ask(x(n, 0))) for n in range(3)))
    assert [floats(answer) for answer in answers] == [[7], [8], [9]]


async def test_typed_elements_are_answered_typed(bench: Bench) -> None:
    tensor = gateway_pb2.Tensor(name="x", dtype="FP32", shape=[1, 2], fp32=[1, 2])
    message = gateway_pb2.PredictRequest(model="alpha", inputs=[tensor], request_id="me")
    reply = await bench.channel.unary_unary(servepath.METHOD)(message.SerializeToString())
    response = gateway_pb2.PredictResponse.FromString(reply)
    assert (response.request_id, list(response.outputs[0].fp32), response.outputs[0].raw) == ("me", [12], b"")


async def test_the_open_inference_protocol_reaches_the_same_path(bench: Bench) -> None:
    answer = await bench.infer(ask(model="alpha@onnx"))
    assert floats(answer) == [12]
    assert answer.served.sha256 == bench.manifest.sha256


async def test_a_hash_that_the_server_names_is_passed_on_as_observed(bench: Bench) -> None:
    bench.backend.served = bench.backend.served._replace(sha256=bench.manifest.sha256, sha256_observed=True)
    assert (await bench.predict(ask())).served.sha256_observed


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask(x(1, 2, shape=(1, 3))), "BAD_INPUT.SHAPE"),
        (ask(x(1, 2, shape=(2,))), "BAD_INPUT.SHAPE"),
        (ask(x(1, 2, shape=())), "BAD_INPUT.SHAPE"),
        (ask(x(1, 2, shape=(-1, 2))), "BAD_INPUT.SHAPE"),
        (ask(x(1, 2, shape=(2**31, 2**31, 4))), "BAD_INPUT.SHAPE"),
        (ask(x(1, 2, shape=(2**40, 2))), "BAD_INPUT.SHAPE"),
        (ask(x(1, 2, shape=(2, 2))), "BAD_INPUT.BYTES"),
        (ask(x(1, 2, dtype="FP64")), "BAD_INPUT.DTYPE"),
        (ask(x(1, 2, dtype="nonsense")), "BAD_INPUT.DTYPE"),
        (ask(x(1, 2, name="z")), "BAD_INPUT.INPUTS"),
        (ask(x(1, 2), x(1, 2)), "BAD_INPUT.INPUTS"),
        (ask(x(1, 2), outputs=("nope",)), "BAD_INPUT.OUTPUTS"),
        (ask(x(1, 2), outputs=("y", "y")), "BAD_INPUT.OUTPUTS"),
        (ask(model=""), "BAD_INPUT.MODEL_NAME"),
        (ask(model="../alpha"), "BAD_INPUT.MODEL_NAME"),
        (ask(model="alpha@"), "BAD_INPUT.MODEL_NAME"),
        (ask(model="alpha@onnx@onnx"), "BAD_INPUT.MODEL_NAME"),
        (ask(model="alpha\n"), "BAD_INPUT.MODEL_NAME"),
        (ask(model="a" * 129), "BAD_INPUT.MODEL_NAME"),
        (ask(version=-1), "BAD_INPUT.VERSION"),
        (ask(request_id="\n"), "BAD_INPUT.ID"),
        (b"\xff\xff", "BAD_INPUT.MESSAGE"),
        (b"", "BAD_INPUT.MODEL_NAME"),
    ],
)
async def test_bad_input_is_refused_before_any_server_sees_it(bench: Bench, request_: Any, reason: str) -> None:
    await until(bench.gateway.backend.ready)
    seen = [call for call in bench.backend.calls if call.request.inputs != bench_zeros()]
    assert (await bench.refusal(request_))[:2] == (StatusCode.INVALID_ARGUMENT, reason)
    assert [call for call in bench.backend.calls if call.request.inputs != bench_zeros()] == seen
    assert floats(await bench.predict(ask())) == [12]


def bench_zeros() -> tuple[Tensor, ...]:
    """Return what probes send."""
    return (x(0, 0),)


@pytest.mark.parametrize("model", ["beta", "Alpha", "alpha@tfserving", "a" * 128, "alpha."])
async def test_an_unknown_model_or_path_is_not_found(bench: Bench, model: str) -> None:
    assert (await bench.refusal(ask(model=model)))[:2] == (StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


async def test_an_unknown_version_is_not_found_and_a_new_one_is_noticed(bench: Bench) -> None:
    assert (await bench.refusal(ask(version=2)))[0] is StatusCode.NOT_FOUND
    make_export(bench.exports, "alpha", "onnx", 2)
    bench.backend.served = bench.backend.served._replace(version=2)

    async def answered() -> bool:
        try:
            return (await bench.predict(ask(version=2))).served.version == 2
        except aio.AioRpcError:
            return False

    await until(answered)


async def test_a_version_that_the_server_takes_up_is_known_though_another_was_just_looked_for(bench: Bench) -> None:
    assert (await bench.refusal(ask(version=9)))[0] is StatusCode.NOT_FOUND
    make_export(bench.exports, "alpha", "onnx", 2)
    bench.backend.served = bench.backend.served._replace(version=2)
    assert (await bench.predict(ask())).served.version == 2


async def test_zero_rows_are_answered_empty_without_a_server(bench: Bench) -> None:
    answer = await bench.predict(ask(Tensor("x", "FP32", (0, 2), b"")))
    assert answer.outputs == (Tensor("y", "FP32", (0, 1), b""),)
    assert answer.served.sha256 == bench.manifest.sha256
    assert all(call.request.inputs[0].shape[0] for call in bench.backend.calls)


async def test_zero_rows_of_a_version_that_there_is_not_are_not_found(bench: Bench) -> None:
    empty = Tensor("x", "FP32", (0, 2), b"")
    assert (await bench.refusal(ask(empty, version=9)))[:2] == (StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    assert (await bench.predict(ask(empty, version=1))).served.version == 1


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (x(1, 2),),
        (Tensor("y", "FP32", (1, 1), b"\0" * 8),),
        (Tensor("y", "FP32", (2, 1), b"\0" * 8),),
        (Tensor("y", "FP64", (1, 1), b"\0" * 8),),
        (Tensor("y", "FP32", (1, 1), b"\0" * 4),) * 2,
    ],
)
async def test_a_reply_that_is_no_answer_is_internal(bench: Bench, outputs: tuple[Tensor, ...]) -> None:
    bench.backend.behave = lambda _: Answer(outputs, bench.backend.served)
    assert (await bench.refusal(ask()))[:2] == (StatusCode.INTERNAL, "BACKEND_BAD_REPLY")


async def test_an_artifact_that_is_not_the_manifests_is_never_passed_off(bench: Bench) -> None:
    bench.backend.served = bench.backend.served._replace(sha256="0" * 64, sha256_observed=True)
    assert (await bench.refusal(ask()))[:2] == (StatusCode.INTERNAL, "BACKEND_BAD_REPLY")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadInput("secret /path"), StatusCode.INVALID_ARGUMENT),
        (errors.ModelNotFound("secret"), StatusCode.UNAVAILABLE),
        (errors.Overloaded("secret"), StatusCode.RESOURCE_EXHAUSTED),
        (errors.Internal(), StatusCode.INTERNAL),
        (errors.Unsupported("secret"), StatusCode.INTERNAL),
        (errors.Draining(), StatusCode.UNAVAILABLE),
    ],
)
async def test_a_servers_refusal_is_translated_and_its_text_stays_behind(
    bench: Bench, error: errors.ServeError, code: StatusCode
) -> None:
    bench.backend.behave = lambda _: error
    found, _, text = await bench.refusal(ask())
    assert found is code
    assert "secret" not in text


async def test_a_call_ends_at_its_deadline_though_the_server_hangs(bench: Bench) -> None:
    bench.backend.behave = lambda _: None
    code, _, _ = await bench.refusal(ask(), timeout_s=0.2)
    assert code is StatusCode.DEADLINE_EXCEEDED
    bench.backend.behave = bench.backend.answer
    assert floats(await bench.predict(ask())) == [12]


async def test_what_is_above_the_bounds_is_refused_at_once_and_the_rest_is_answered(bench: Bench) -> None:
    held: list[Call] = []
    bench.backend.behave = held.append
    calls = [asyncio.create_task(bench.predict(ask(x(n, 0)))) for n in range(1, 4)]
    await until(lambda: bench.gateway.data_plane.in_flight == 3)
    code, reason, _ = await bench.refusal(ask())
    assert (code, reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    bench.backend.behave = bench.backend.answer
    for call in held:
        call.end(bench.backend.answer(call))
    assert [floats(await call) for call in calls] == [[8], [9], [10]]


async def test_a_waiting_call_that_expires_never_reaches_the_server(bench: Bench) -> None:
    bench.backend.behave = lambda _: None
    hung: list[asyncio.Task[Answer]] = []
    for n in (1, 2):  # one after the other, so that they do not leave as one
        hung.append(asyncio.create_task(bench.predict(ask(x(n, 0)))))
        await until(lambda: bench.gateway.data_plane.in_flight == len(hung))
    assert (await bench.refusal(ask(x(9, 9)), 0.2))[0] is StatusCode.DEADLINE_EXCEEDED
    await until(lambda: bench.gateway.data_plane.in_flight == 2)
    for call in hung:
        call.cancel()
    bench.backend.behave = bench.backend.answer
    assert floats(await bench.predict(ask())) == [12]
    assert (x(9, 9),) not in [call.request.inputs for call in bench.backend.calls]


async def test_a_cancelled_call_gives_its_place_back(bench: Bench) -> None:
    bench.backend.behave = lambda _: None
    calls = [asyncio.create_task(bench.predict(ask())) for _ in range(3)]
    await until(lambda: bench.gateway.data_plane.in_flight == 3)
    for call in calls:
        call.cancel()
    await until(lambda: bench.gateway.data_plane.in_flight == 0)
    bench.backend.behave = bench.backend.answer
    assert floats(await bench.predict(ask())) == [12]


async def test_a_dead_server_is_unavailable_and_found_again(bench: Bench) -> None:
    port = bench.stack.port
    health = health_pb2_grpc.HealthStub(bench.channel)

    async def state(name: str, wanted: int) -> bool:
        return (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == wanted

    await until(lambda: state(READINESS, health_pb2.HealthCheckResponse.SERVING))
    await bench.stack.stop()
    assert (await bench.refusal(ask()))[:2] == (StatusCode.UNAVAILABLE, "BACKEND_DOWN")
    for name in ("", "alpha", "alpha@onnx"):
        await until(lambda name=name: state(name, health_pb2.HealthCheckResponse.NOT_SERVING))
    for name in (LIVENESS, READINESS):
        assert await state(name, health_pb2.HealthCheckResponse.SERVING)
    bench.stack = await FakeStack(FakeBackend(bias=9), port).start()
    for name in ("", "alpha", "alpha@onnx"):
        await until(lambda name=name: state(name, health_pb2.HealthCheckResponse.SERVING))
    assert floats(await bench.predict(ask())) == [14]
    await bench.stack.stop()


async def test_a_call_whose_connection_is_closed_under_it_ends(bench: Bench) -> None:
    bench.backend.behave = lambda _: None
    call = asyncio.create_task(bench.refusal(ask()))
    await until(lambda: bench.gateway.data_plane.in_flight == 1)
    await bench.gateway.backend.close()
    assert (await call)[:2] == (StatusCode.UNAVAILABLE, "DRAINING")


async def test_draining_answers_what_is_in_flight_and_refuses_the_rest(bench: Bench) -> None:
    held: list[Call] = []
    bench.backend.behave = held.append
    call = asyncio.create_task(bench.predict(ask()))
    await until(lambda: any(c.request.inputs == (x(1, 2),) for c in held))
    draining = asyncio.create_task(bench.gateway.drain())
    await until(lambda: bench.gateway.data_plane.draining)
    reply = await bench.channel.unary_unary(f"/{oip.SERVICE}/ServerReady")(b"")
    assert not oip_pb2.ServerReadyResponse.FromString(reply).ready
    asked = oip_pb2.ModelReadyRequest(name="alpha").SerializeToString()
    reply = await bench.channel.unary_unary(f"/{oip.SERVICE}/ModelReady")(asked)
    assert not oip_pb2.ModelReadyResponse.FromString(reply).ready
    assert (await bench.refusal(ask()))[:2] == (StatusCode.UNAVAILABLE, "DRAINING")
    for waiting in held:
        waiting.end(bench.backend.answer(waiting))
    assert floats(await call) == [12]
    await draining


async def test_a_stop_under_200_calls_answers_each_or_says_that_it_may_go_elsewhere(bench: Bench, front: str) -> None:
    may_go_elsewhere = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED}
    if front == "grpcio":
        # Its stop cancels what it has read and not yet handed over; the quiet moment of the drain makes that rare.
        may_go_elsewhere |= {StatusCode.CANCELLED}
    calls = [asyncio.create_task(bench.predict(ask(x(n, 0)), LONG_S)) for n in range(200)]
    await until(lambda: bench.gateway.data_plane.in_flight > 0)
    await bench.gateway.drain()
    await bench.gateway.close()
    for n, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
        if isinstance(outcome, Answer):
            assert floats(outcome) == [n + 7]
        else:
            assert isinstance(outcome, aio.AioRpcError)
            assert outcome.code() in may_go_elsewhere, outcome


async def test_metrics_count_every_call_under_names_from_the_registry_only(bench: Bench) -> None:
    for _ in range(3):
        await bench.predict(ask(x(1, 2, 3, 4)))
    await bench.refusal(ask(model="never-heard-of"))
    await bench.refusal(b"\xff")
    text = await asyncio.to_thread(bench.metrics)
    assert 'servepath_requests_total{code="OK",model="alpha",stack="onnx"} 3.0' in text
    assert 'servepath_rows_total{model="alpha",stack="onnx"} 6.0' in text
    assert 'servepath_requests_total{code="NOT_FOUND",model="_unknown",stack="_unknown"} 1.0' in text
    assert 'servepath_requests_total{code="INVALID_ARGUMENT",model="_unknown",stack="_unknown"} 1.0' in text
    assert 'servepath_path_ready{model="alpha",stack="onnx"} 1.0' in text
    assert "never-heard-of" not in text


async def test_control_calls_describe_paths_and_models(bench: Bench) -> None:
    await bench.predict(ask())
    reply = await bench.channel.unary_unary(servepath.LIST_PATHS)(b"")
    (path,) = gateway_pb2.ListPathsResponse.FromString(reply).paths
    assert (path.model, path.stack, path.is_default, path.ready, path.version) == ("alpha", "onnx", True, True, 1)
    assert (path.inputs[0].name, path.inputs[0].dtype, list(path.inputs[0].shape)) == ("x", "FP32", [-1, 2])
    asked = oip_pb2.ModelMetadataRequest(name="alpha@onnx").SerializeToString()
    reply = await bench.channel.unary_unary(f"/{oip.SERVICE}/ModelMetadata")(asked)
    metadata = oip_pb2.ModelMetadataResponse.FromString(reply)
    assert (metadata.name, list(metadata.versions), metadata.outputs[0].name) == ("alpha@onnx", ["1"], "y")
    asked = oip_pb2.ModelReadyRequest(name="beta").SerializeToString()
    with pytest.raises(aio.AioRpcError) as caught:
        await bench.channel.unary_unary(f"/{oip.SERVICE}/ModelReady")(asked)
    assert caught.value.code() is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "method", [servepath.LIST_PATHS, f"/{oip.SERVICE}/ModelMetadata", f"/{oip.SERVICE}/ServerLive"]
)
async def test_bytes_that_are_no_control_request_are_the_callers_fault(bench: Bench, method: str) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await bench.channel.unary_unary(method)(b"\xff\xff")
    assert (caught.value.code(), reason_of(caught.value)) == (StatusCode.INVALID_ARGUMENT, "BAD_INPUT.MESSAGE")


@pytest.mark.parametrize("character", ["\u6f22", "\U0001f600"])
async def test_a_refusal_arrives_whatever_the_caller_had_it_quote(bench: Bench, character: str) -> None:
    code, reason, text = await bench.refusal(ask(x(1, 2, name=character * 2000)))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "BAD_INPUT.INPUTS")
    assert text.startswith(f"unexpected input '{character.encode('unicode_escape').decode()}")


async def test_reflection_shows_our_own_service_only(bench: Bench) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: PLC0415

    stub = reflection_pb2_grpc.ServerReflectionStub(bench.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async for reply in stub.ServerReflectionInfo(iter([asked])):
        names = [service.name for service in reply.list_services_response.service]
    assert sorted(names) == ["grpc.reflection.v1alpha.ServerReflection", "servepath.v1.Gateway"]


async def test_an_unknown_method_is_unimplemented(bench: Bench) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await bench.channel.unary_unary("/servepath.v1.Gateway/Nope")(b"")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
