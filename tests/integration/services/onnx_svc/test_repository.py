"""The model repository of a real onnx_svc: what there is, and loading what has been exported since the start."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath.artifacts.atomic import write_file
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.dataplane.options import ON
from services.oip_server.server import OipServer
from tests.limits import LONG_S
from tests.oip_client import Client, ask, y_of
from tests.tiny_onnx import linear, make_export

Start = Callable[..., OipServer]
Connect = Callable[[OipServer], Client]


def index(client: Client, **request: object) -> dict[tuple[str, str], tuple[str, str]]:
    reply = client.control("RepositoryIndex", pb.RepositoryIndexRequest(**request), pb.RepositoryIndexResponse)
    return {(entry.name, entry.version): (entry.state, entry.reason) for entry in reply.models}


def load(client: Client, model: str = "simple_nn", **request: object) -> None:
    message = pb.RepositoryModelLoadRequest(model_name=model, **request)
    client.control("RepositoryModelLoad", message, pb.RepositoryModelLoadResponse)


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_the_index_has_every_version_and_says_which_are_loaded(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports, watch_s=LONG_S))
    make_export(exports, "simple_nn", 3, content=linear(3), current=False)
    loaded = {("keras_dense", "1"), ("simple_nn", "1"), ("simple_nn", "2")}
    assert index(client) == dict.fromkeys(loaded, ("READY", "")) | {
        ("simple_nn", "3"): ("UNAVAILABLE", "exported and not loaded")
    }
    assert index(client, ready=True).keys() == loaded
    assert refusal(lambda: index(client, repository_name="other"))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_a_load_brings_what_was_exported_since_and_makes_the_current_version_current(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports, watch_s=LONG_S, model_loading=ON))
    for version in (3, 4):
        make_export(exports, "simple_nn", version, content=linear(version), current=False)
    load(client)
    assert [y_of(client.infer(ask(version=version))) for version in (1, 2, 3, 4, 0)] == [6, 7, 8, 9, 7]
    write_file(exports / "simple_nn" / "current", "4")
    load(client, "simple_nn@onnx")
    assert y_of(client.infer(ask())) == 9


def test_a_version_that_cannot_be_loaded_is_named_and_the_others_are_loaded(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports, watch_s=LONG_S, model_loading=ON))
    make_export(exports, "simple_nn", 3, content=b"no model", current=False)
    make_export(exports, "simple_nn", 4, content=linear(4), current=False)
    said = "simple_nn: version 3 cannot be loaded; the server's log says why"
    assert refusal(lambda: load(client)) == (grpc.StatusCode.UNAVAILABLE, said)
    assert [y_of(client.infer(ask(version=version))) for version in (1, 4, 0)] == [6, 9, 7]
    assert index(client)["simple_nn", "3"][0] == "UNAVAILABLE"


def unload(client: Client, model: str) -> None:
    as_tritons_client = {"unload_dependents": pb.ModelRepositoryParameter(bool_param=False)}
    message = pb.RepositoryModelUnloadRequest(model_name=model, parameters=as_tritons_client)
    client.control("RepositoryModelUnload", message, pb.RepositoryModelUnloadResponse)


def health_of(client: Client, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    status: int = health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=LONG_S).status
    return status


def test_an_unloaded_model_is_gone_until_it_is_loaded_again_and_the_others_serve_on(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports, model_loading=ON))  # the watcher looks fifty times a second
    unload(client, "simple_nn")
    assert refusal(lambda: client.infer(ask())) == (grpc.StatusCode.NOT_FOUND, "simple_nn was unloaded by a call")
    make_export(exports, "simple_nn", 3, content=linear(3))
    assert index(client)["simple_nn", "2"] == ("UNAVAILABLE", "unloaded by a call")
    assert [health_of(client, name) for name in ("simple_nn", "simple_nn@onnx", "keras_dense", "")] == [2, 2, 1, 1]
    assert y_of(client.infer(ask(model="keras_dense"))) == 15
    assert client.control("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert refusal(lambda: client.infer(ask(version=3)))[0] is grpc.StatusCode.NOT_FOUND
    load(client, "simple_nn")
    assert [y_of(client.infer(ask(version=version))) for version in (1, 2, 3, 0)] == [6, 7, 8, 8]
    assert health_of(client, "simple_nn") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "loading models by a call is off: start the server with --model-loading on"),
        ({"model_loading": ON, "worker_of": 99}, "several processes share this port, and a call reaches one of them"),
    ],
)
def test_nothing_is_loaded_where_that_is_off_or_would_reach_one_process_of_several(
    start_server: Start, connect: Connect, exports: Path, changes: dict[str, object], said: str
) -> None:
    client = connect(start_server(exports, **changes))
    for change in (load, unload):
        code, text = refusal(lambda change=change: change(client, "simple_nn"))  # type: ignore[misc]
        assert (code, text[: len(said)]) == (grpc.StatusCode.UNIMPLEMENTED, said)


def test_what_is_no_model_of_the_folder_is_refused(start_server: Start, connect: Connect, exports: Path) -> None:
    client = connect(start_server(exports, model_loading=ON))
    assert refusal(lambda: load(client, "nobody"))[0] is grpc.StatusCode.NOT_FOUND
    assert refusal(lambda: load(client, ""))[0] is grpc.StatusCode.INVALID_ARGUMENT
    config = {"config": pb.ModelRepositoryParameter(string_param="{}")}
    said = "a model is loaded as it was exported; leave parameters out"
    assert refusal(lambda: load(client, parameters=config)) == (grpc.StatusCode.UNIMPLEMENTED, said)
