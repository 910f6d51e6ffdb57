from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import grpc
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath import VERSION
from servepath.artifacts.manifest import artifact_folder, read_manifest
from servepath.protocols import oip
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.oip_server.server import OipServer
from tests.limits import LONG_S
from tests.oip_client import Client, ask, code_and_reason, y_of

Start = Callable[..., OipServer]
Connect = Callable[[OipServer], Client]
SERVING = health_pb2.HealthCheckResponse.SERVING


def metadata(client: Client, name: str, version: str = "") -> pb.ModelMetadataResponse:
    return client.control(
        "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version), pb.ModelMetadataResponse
    )


def ready(client: Client, name: str, version: str = "") -> bool:
    return client.control("ModelReady", pb.ModelReadyRequest(name=name, version=version), pb.ModelReadyResponse).ready


def test_a_reply_names_stack_engine_version_and_the_hash_that_was_seen(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    answer = connect(start_server(exports)).infer(ask())
    manifest = read_manifest(artifact_folder(exports, "simple_nn", "onnx", 2))
    assert y_of(answer) == 7
    assert answer.served == answer.served._replace(
        stack="onnx",
        engine="onnxruntime",
        engine_version=f"{onnxruntime.__version__} (CPUExecutionProvider)",
        version=2,
        sha256=manifest.sha256,
        sha256_observed=True,
    )


@pytest.mark.parametrize(
    ("model", "version", "y"),
    [
        ("simple_nn", 0, 7),
        ("simple_nn", 1, 6),
        ("simple_nn@onnx", 2, 7),
        ("keras_dense", 0, 15),
        ("keras_dense@onnx", 1, 15),
    ],
)
def test_every_name_and_version_is_answered_by_its_own_model(
    client: Client, model: str, version: int, y: float
) -> None:
    assert y_of(client.infer(ask(model=model, version=version))) == y


def test_a_reply_is_under_the_name_and_id_of_its_request_and_raw_for_typed_contents(client: Client) -> None:
    request = pb.ModelInferRequest(model_name="simple_nn@onnx", id="seven")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 2]).contents.fp32_contents.extend((1, 2, 3, 4))
    request.outputs.add(name="y")
    reply = pb.ModelInferResponse.FromString(client.send(request.SerializeToString()))
    assert (reply.model_name, reply.model_version, reply.id) == ("simple_nn@onnx", "2", "seven")
    assert list(reply.outputs[0].shape) == [2, 1]
    assert reply.raw_output_contents[0] == bytes.fromhex("0000e040 00005041")  # 7.0, 13.0


def test_zero_rows_are_answered_ok_and_empty(client: Client) -> None:
    answer = client.infer(Request("simple_nn", 0, (Tensor("x", "FP32", (0, 2), b""),)))
    assert answer.outputs == (Tensor("y", "FP32", (0, 1), b""),)
    assert answer.served.version == 2


def test_the_server_is_live_and_ready_and_says_what_it_is(client: Client) -> None:
    assert client.control("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert client.control("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    server = client.control("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert (server.name, server.version, list(server.extensions)) == (
        "servepath onnx_svc",
        VERSION,
        ["model_repository"],
    )


def test_a_models_metadata_declares_its_tensors_and_versions(client: Client) -> None:
    model = metadata(client, "simple_nn")
    assert (model.name, list(model.versions), model.platform) == ("simple_nn", ["1", "2"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("x", "FP32", [-1, 2])]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.outputs] == [("y", "FP32", [-1, 1])]
    assert metadata(client, "simple_nn@onnx", "1").properties["version"] == "1"


def test_a_loaded_model_is_ready(client: Client) -> None:
    assert ready(client, "simple_nn")
    assert ready(client, "simple_nn@onnx", "1")


@pytest.mark.parametrize("ask_control", [ready, metadata])
@pytest.mark.parametrize(
    ("name", "version", "refusal"),
    [
        ("nobody", "", (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")),
        ("simple_nn@torchserve", "", (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")),
        ("simple_nn", "9", (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")),
        ("simple_nn", "latest", (grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT.VERSION")),
        ("../simple_nn", "", (grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT.MODEL_NAME")),
    ],
)
def test_control_rpcs_refuse_unknown_names_as_infer_does(
    client: Client, ask_control: Callable[[Client, str, str], object], name: str, version: str, refusal: object
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask_control(client, name, version)
    assert code_and_reason(caught.value) == refusal


@pytest.mark.parametrize("name", ["", "simple_nn", "simple_nn@onnx", "keras_dense", "keras_dense@onnx"])
def test_health_is_serving_for_the_server_and_each_model(client: Client, name: str) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=LONG_S).status == SERVING


def test_health_of_an_unknown_service_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(client.channel).Check(
            health_pb2.HealthCheckRequest(service="nobody"), timeout=LONG_S
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "method",
    [f"/{oip.SERVICE}/ModelStatistics", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/a.B/C"],
)
def test_a_method_that_is_not_offered_is_unimplemented(client: Client, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary(method)(b"", timeout=LONG_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert y_of(client.infer(ask())) == 7


def scrape(server: OipServer) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=LONG_S) as reply:
        lines = reply.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_count_calls_by_code_rows_and_durations(start_server: Start, connect: Connect, exports: Path) -> None:
    server = start_server(exports)
    client = connect(server)
    client.infer(Request("simple_nn@onnx", 0, (Tensor("x", "FP32", (3, 2), bytes(24)),)))
    client.refused(Request("simple_nn", 0, ()))
    client.refused(b"\xff")
    found = scrape(server)
    assert found['onnx_svc_requests_total{code="OK",model="simple_nn"}'] == 1
    assert found['onnx_svc_requests_total{code="INVALID_ARGUMENT",model="simple_nn"}'] == 1
    assert found['onnx_svc_requests_total{code="INVALID_ARGUMENT",model="_unknown"}'] == 1
    assert found['onnx_svc_rows_total{model="simple_nn"}'] == 3
    assert found['onnx_svc_request_duration_seconds_count{model="simple_nn"}'] == 2
    assert found['onnx_svc_model_version{model="simple_nn"}'] == 2
    assert found['onnx_svc_in_flight_requests{model="simple_nn"}'] == 0
    assert found["process_resident_memory_bytes"] > 0


def test_unknown_names_make_no_new_series(start_server: Start, connect: Connect, exports: Path) -> None:
    server = start_server(exports)
    client = connect(server)
    client.refused(ask(model="nobody"))
    before = scrape(server).keys()
    for number in range(200):
        assert client.refused(ask(model=f"nobody{number}")) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    after = scrape(server)
    assert after.keys() == before
    assert after['onnx_svc_requests_total{code="NOT_FOUND",model="_unknown"}'] == 201
