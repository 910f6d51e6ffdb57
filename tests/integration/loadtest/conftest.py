"""A gRPC server in this process that answers the Open Inference Protocol and the gateway's, and can be told to err."""

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from safetensors.numpy import save_file

from servepath.protocols import oip, servepath
from servepath.protocols.stacks import STACKS
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2 as pb
from tests.manifests import write_manifest

SLOPE, BIAS = np.array([[2.0], [-0.5]]), 0.25
MODEL = "line"


@dataclass
class Behaviour:
    """What the server does; tests change it. code: of every call after the first `answered_first`."""

    bias: float = BIAS
    stack: str = "onnx"
    code: grpc.StatusCode = grpc.StatusCode.OK
    answered_first: int = 0
    models: list[str] = field(default_factory=list)
    engine_version: str = "1.5"
    delay_s: float = 0.0
    gateway_bias: float = 0.0
    gateway_precision: str = "fp32"
    difference: float = 0.125

    def answer(self, request: Request) -> Answer:
        x = np.frombuffer(request.inputs[0].data, "<f4").reshape(request.inputs[0].shape)
        bias = self.bias + (self.gateway_bias if "@" in request.model else 0)  # the gateway is asked for MODEL@STACK
        y = (x @ SLOPE + bias).astype("<f4")
        self.models.append(request.model)
        time.sleep(self.delay_s)
        served = Provenance(MODEL, self.stack, "test engine", self.engine_version, 1, "ab" * 32, sha256_observed=True)
        served = served._replace(precision=self.gateway_precision if "@" in request.model else "fp32")
        return Answer((Tensor("y", "FP32", y.shape, y.tobytes()),), served._replace(gateway_us=40, backend_us=160))

    def listed(self) -> bytes:
        """Return the reply to ListPaths."""
        path = pb.Path(model=MODEL, stack=self.stack, difference=self.difference)
        return pb.ListPathsResponse(paths=[path]).SerializeToString()


@dataclass(frozen=True)
class Stand:
    """The server, and the arguments with which `python -m loadtest` finds it and its model."""

    behaviour: Behaviour
    address: str
    folder: Path
    arguments: list[str]


def handler(method: str, handle: Callable[[bytes, grpc.ServicerContext], bytes]) -> grpc.GenericRpcHandler:
    service, name = method.strip("/").split("/")
    return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(handle)})


def serve(behaviour: Behaviour, address: str = "127.0.0.1:0") -> tuple[grpc.Server, int]:
    def handle(codec: object) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def one(payload: bytes, context: grpc.ServicerContext) -> bytes:
            if behaviour.code is not grpc.StatusCode.OK and len(behaviour.models) >= behaviour.answered_first:
                context.abort(behaviour.code, "as told")
            request = codec.decode_request(payload)
            return codec.encode_answer(request, behaviour.answer(request))

        return one

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([handler(codec.METHOD, handle(codec)) for codec in (oip, servepath)])
    server.add_generic_rpc_handlers([handler(servepath.LIST_PATHS, lambda *_: behaviour.listed())])
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def write_reference(exports: Path, model: str = MODEL, slope: float = 1.0) -> None:
    x = np.random.default_rng(1).uniform(-10, 10, (256, 2)).astype(np.float32)
    folder = exports / model / "reference" / "1"
    folder.mkdir(parents=True)
    save_file({"x": x, "y": x.astype(np.float64) @ SLOPE * slope + BIAS}, folder / "reference.safetensors")
    (exports / model / "current").write_text("1")
    write_manifest(folder, model, "reference", 1)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    behaviour = Behaviour()
    server, port = serve(behaviour)
    address = f"127.0.0.1:{port}"
    names = ("GATEWAY_ADDR", *(stack.address_variable for stack in STACKS.values()))
    (tmp_path / "env").write_text("".join(f"{name}={address}\n" for name in names))
    (tmp_path / "deployments.toml").write_text(f"[models.{MODEL}]\ndefault = 'onnx'\n[models.{MODEL}.stacks.onnx]\n")
    write_reference(tmp_path / "exports")
    places = {"env-file": "env", "deployments": "deployments.toml", "exports": "exports", "out": "results"}
    arguments = [f"--{name}={tmp_path / place}" for name, place in places.items()]
    yield Stand(behaviour, address, tmp_path, arguments)
    server.stop(None).wait()
