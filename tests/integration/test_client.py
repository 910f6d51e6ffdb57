"""The clients, the command line and the JSON form against a real gRPC server in this process."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from servepath.client import AsyncClient, Client, PredictError, Prediction
from servepath.protocols import servepath
from servepath.protocols.errors import BackendUnavailable, BadInput
from servepath.protocols.types import Provenance
from servepath_pb.servepath.v1 import gateway_pb2 as pb
from services.dataplane import control
from services.dataplane.data_plane import DataPlane
from services.dataplane.grpcio_listener import GrpcioListener
from services.dataplane.listener import ListenerLimits
from tests.fake_stack import FakeBackend
from tests.limits import LONG_S

ROOT = Path(__file__).parents[2]
DEADLINE_S = 10
SERVED = Provenance("line", "onnx", "fake", "1.2", 4, "ab" * 32, sha256_observed=True, gateway_us=11, backend_us=22)


@dataclass
class FakeGateway:
    """A gateway of one path, line@onnx, with y = x0 + 2 x1; `backend.behave` makes it err."""

    backend: FakeBackend = field(default_factory=FakeBackend)
    address: str = ""
    takes: str = "x"

    async def list_paths(self, _: pb.ListPathsRequest) -> pb.ListPathsResponse:
        path = pb.Path(model="line", stack="onnx", is_default=True, ready=True, engine="fake", engine_version="1.2")
        path.sha256 = SERVED.sha256
        path.inputs.add(name=self.takes, dtype="FP32", shape=[-1, 2])
        path.outputs.add(name="y", dtype="FP32", shape=[-1, 1])
        return pb.ListPathsResponse(paths=[path])

    async def serve(self, started: Callable[[str], None], stop: asyncio.Event) -> None:
        data_plane = DataPlane(self.backend, {servepath.METHOD: servepath}, lambda _, outcome: outcome)
        handlers = control.handlers(servepath.SERVICE, {"ListPaths": (pb.ListPathsRequest, self.list_paths)})
        controls = [lambda server: server.add_generic_rpc_handlers((handlers,))]
        front = GrpcioListener("127.0.0.1:0", (servepath.METHOD,), data_plane.dispatch, controls, ListenerLimits())
        started(f"127.0.0.1:{await front.start()}")
        await stop.wait()
        await front.stop(0)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """Serve from a thread of its own, so that the blocking client has somebody to wait for."""
    fake, ready = FakeGateway(), threading.Event()
    fake.backend.served = SERVED
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def started(address: str) -> None:
        fake.address = address
        ready.set()

    thread = threading.Thread(target=loop.run_until_complete, args=[fake.serve(started, stop)])
    thread.start()
    assert ready.wait(LONG_S)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join(LONG_S)
    loop.close()


def blocking(address: str, call: Callable[[Client], Any]) -> Any:
    with Client(address) as client:
        return call(client)


def with_asyncio(address: str, call: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with AsyncClient(address) as client:
            return await call(client)

    return asyncio.run(main())


Ask = Callable[[str, Callable[[Any], Any]], Any]
both = pytest.mark.parametrize("ask", [blocking, with_asyncio])


def command_line(gateway_address: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client", *words, "--addr", gateway_address, "--timeout", "120"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)


@both
def test_a_prediction_comes_back_as_arrays_with_who_made_it(gateway: FakeGateway, ask: Ask) -> None:
    prediction = ask(gateway.address, lambda client: client.predict("line", [[1, 2], [3, 4]], timeout_s=LONG_S))

    assert prediction.output.tolist() == [[5], [11]]
    assert prediction.served == SERVED


@both
def test_arrays_go_in_by_input_name(gateway: FakeGateway, ask: Ask) -> None:
    inputs = {"x": np.array([[1, 2]], np.float64)}
    prediction = ask(gateway.address, lambda client: client.predict("line@onnx", inputs, timeout_s=LONG_S))

    assert prediction.to_lists() == {"y": [[5]]}


@both
def test_the_paths_are_listed_with_what_they_take(gateway: FakeGateway, ask: Ask) -> None:
    (path,) = ask(gateway.address, lambda client: client.list_paths(timeout_s=LONG_S))

    assert (path.name, path.is_default, path.ready, path.inputs[0].shape) == ("line@onnx", True, True, (-1, 2))


@both
def test_a_refusal_arrives_with_code_reason_and_hint(gateway: FakeGateway, ask: Ask) -> None:
    gateway.backend.behave = lambda _: BackendUnavailable("the model server cannot be reached")

    with pytest.raises(PredictError, match=r"line at 127\.0\.0\.1:.*: the model server cannot be reached") as refused:
        ask(gateway.address, lambda client: client.predict("line", [[1, 2]], timeout_s=LONG_S))

    error = refused.value
    assert (error.code, error.reason, error.retry_after_ms) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_DOWN", 1000)


@both
def test_a_silent_gateway_is_given_up_after_the_timeout(gateway: FakeGateway, ask: Ask) -> None:
    gateway.backend.behave = lambda _: None
    begin = time.monotonic()

    with pytest.raises(PredictError) as refused:
        ask(gateway.address, lambda client: client.predict("line", [[1, 2]], timeout_s=0.3))

    assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begin < DEADLINE_S


@both
def test_nobody_listening_is_said_with_the_fix(ask: Ask) -> None:
    with pytest.raises(PredictError, match=r"nothing listens on 127\.0\.0\.1:1; run: make up"):
        ask("127.0.0.1:1", lambda client: client.list_paths())


@both
def test_an_http_1_server_is_told_from_a_gateway(ask: Ask) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        with pytest.raises(PredictError, match=r"something answers on 127\.0\.0\.1:\d+, but no gRPC server"):
            ask(f"127.0.0.1:{server.server_port}", lambda client: client.list_paths())
        server.shutdown()


@pytest.mark.parametrize("address", ["http://127.0.0.1:50051", "127.0.0.1", "", "127.0.0.1:", "a b:1", "h:1/path"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_address_is_refused_by_name(kind: Callable[[str], object], address: str) -> None:
    with pytest.raises(ValueError, match=f"'{address}' is not HOST:PORT"):
        kind(address)


@both
@pytest.mark.parametrize("timeout_s", [1e10, math.inf])
def test_any_long_timeout_waits_for_the_answer(gateway: FakeGateway, ask: Ask, timeout_s: float) -> None:
    prediction = ask(gateway.address, lambda client: client.predict("line", [[1, 2]], timeout_s=timeout_s))

    assert prediction.output.tolist() == [[5]]


@both
@pytest.mark.parametrize("timeout_s", [math.nan, -1, -math.inf])
def test_a_timeout_that_is_none_is_refused_by_name(gateway: FakeGateway, ask: Ask, timeout_s: float) -> None:
    with pytest.raises(ValueError, match=f"timeout_s is {timeout_s}"):
        ask(gateway.address, lambda client: client.predict("line", [[1, 2]], timeout_s=timeout_s))


def renamed(gateway: FakeGateway, name: str) -> None:
    """Let the path's only input be called otherwise, as in a new version of the model."""
    gateway.takes = name
    answer = gateway.backend.answer
    gateway.backend.behave = lambda call: (
        answer(call) if call.request.inputs[0].name == name else BadInput("unexpected input 'x'", "INPUTS")
    )


def test_a_client_goes_on_when_a_model_takes_something_else(gateway: FakeGateway) -> None:
    async def change_and_go_on(client: AsyncClient) -> Prediction:
        await client.predict("line", [[1, 2]], timeout_s=LONG_S)
        renamed(gateway, "w")
        return await client.predict("line", [[1, 2]], timeout_s=LONG_S)

    with Client(gateway.address) as client:
        client.predict("line", [[1, 2]], timeout_s=LONG_S)
        renamed(gateway, "z")
        assert client.predict("line", [[1, 2]], timeout_s=LONG_S).output.tolist() == [[5]]
    assert with_asyncio(gateway.address, change_and_go_on).output.tolist() == [[5]]


def test_the_command_line_prints_the_answer_and_who_gave_it(gateway: FakeGateway) -> None:
    done = command_line(gateway.address, "predict", "line", "1 2; 3 4")

    assert done.returncode == 0
    assert done.stdout == (
        "y = [[5.0], [11.0]]\n"
        "served by line@onnx: fake 1.2, version 4, sha256 abababababab, gateway 11 us, backend 22 us\n"
    )


def test_the_command_line_prints_json(gateway: FakeGateway) -> None:
    predicted = json.loads(command_line(gateway.address, "predict", "line", "1 2", "--json").stdout)
    listed = json.loads(command_line(gateway.address, "paths", "--json").stdout)

    assert predicted == {"outputs": {"y": [[5]]}, "served": SERVED._asdict()}
    assert listed["paths"][0]["name"] == "line@onnx"
    assert listed["paths"][0]["inputs"] == [{"name": "x", "dtype": "FP32", "shape": [-1, 2]}]


def test_the_command_line_lists_paths(gateway: FakeGateway) -> None:
    assert command_line(gateway.address, "paths").stdout.split() == ["line@onnx*", "ready", "fake", "1.2"]


def test_the_command_line_ends_with_1_and_one_line_for_a_refusal(gateway: FakeGateway) -> None:
    gateway.backend.behave = lambda _: BadInput("input 'x': too wide", "SHAPE")
    done = command_line(gateway.address, "predict", "line", "1 2")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"servepath predict: line at {gateway.address}: input 'x': too wide (INVALID_ARGUMENT, BAD_INPUT.SHAPE)\n"
    )


@pytest.mark.parametrize("words", [("paths",), ("predict", "line", "1 2")])
def test_the_command_line_ends_quietly_when_its_reader_has_gone(gateway: FakeGateway, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = to_file(gateway.address, writer, *words)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_the_command_line_says_that_its_answer_cannot_be_written(gateway: FakeGateway) -> None:
    done = to_file(gateway.address, os.open("/dev/full", os.O_WRONLY), "paths")
    assert done.returncode == 1
    assert done.stderr == "servepath: cannot write the answer: No space left on device\n"


def to_file(gateway_address: str, writer: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client", *words, "--addr", gateway_address, "--timeout", "120"]
    with os.fdopen(writer, "w") as stdout:
        return subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_the_json_form_of_the_api_is_typed_both_ways(gateway: FakeGateway) -> None:
    """What grpcurl sends and prints: JSON numbers in, JSON numbers out."""
    text = '{"model": "line", "inputs": [{"name": "x", "dtype": "FP32", "shape": [1, 2], "fp32": [1, 2]}]}'
    request = json_format.Parse(text, pb.PredictRequest())
    with grpc.insecure_channel(gateway.address) as channel:
        payload = channel.unary_unary(servepath.METHOD)(request.SerializeToString(), timeout=LONG_S)
    reply = json_format.MessageToDict(pb.PredictResponse.FromString(payload))

    assert reply["outputs"] == [{"name": "y", "dtype": "FP32", "shape": ["1", "1"], "fp32": [5.0]}]
    assert reply["served"] == {
        "model": "line",
        "stack": "onnx",
        "engine": "fake",
        "engineVersion": "1.2",
        "version": "4",
        "sha256": "ab" * 32,
        "sha256Source": "HASH_SOURCE_OBSERVED",
        "gatewayUs": "11",
        "backendUs": "22",
    }
