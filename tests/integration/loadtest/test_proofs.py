"""What is recorded of the proofs that a gateway tells of."""

import math
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace

import grpc
import pytest

from loadtest import proofs
from loadtest.calls import Target
from loadtest.plan import Measurement, ServingPath
from loadtest.targets import no_op_target
from servepath.protocols.servepath import LIST_PATHS
from servepath_pb.servepath.v1 import gateway_pb2 as pb
from tests.integration.loadtest.conftest import handler

Serve = Callable[..., str]


def target(stack: str, address: str, via: str = "gateway", side: str = "") -> Target:
    return replace(no_op_target(address), measurement=Measurement(ServingPath("m", stack), via, side))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start gateways that list paths, or answer these bytes; give the address of each."""
    servers: list[grpc.Server] = []

    def serve(*paths: pb.Path, reply: bytes | None = None) -> str:
        content = pb.ListPathsResponse(paths=paths).SerializeToString() if reply is None else reply
        servers.append(grpc.server(futures.ThreadPoolExecutor(1)))
        servers[-1].add_generic_rpc_handlers([handler(LIST_PATHS, lambda *_: content)])
        port = servers[-1].add_insecure_port("127.0.0.1:0")
        servers[-1].start()
        return f"127.0.0.1:{port}"

    yield serve
    for server in servers:
        server.stop(None).wait()


def test_each_measurement_through_a_gateway_has_what_its_own_one_saw(serve: Serve) -> None:
    one = serve(pb.Path(model="m", stack="onnx", difference=0.25, unbatched="batches differ"))
    two = serve(pb.Path(model="m", stack="onnx", difference=0.5), pb.Path(model="m", stack="litert"))
    targets = [target("onnx", one, side="a"), target("onnx", two, side="b"), target("litert", two)]
    assert proofs.ask([*targets, target("onnx", one, "direct"), no_op_target(one)]) == {
        "m@onnx.gateway~a": {"difference": 0.25, "refused": "", "unbatched": "batches differ"},
        "m@onnx.gateway~b": {"difference": 0.5, "refused": "", "unbatched": ""},
        "m@litert.gateway": {"difference": None, "refused": "", "unbatched": ""},
    }


def test_an_infinite_difference_is_no_number_in_json(serve: Serve) -> None:
    address = serve(pb.Path(model="m", stack="onnx", difference=math.inf, refused="output 'y' is missing"))
    expected = {"difference": None, "refused": "output 'y' is missing", "unbatched": ""}
    assert proofs.ask([target("onnx", address)]) == {"m@onnx.gateway": expected}


def test_a_gateway_that_does_not_tell_ends_no_run(serve: Serve) -> None:
    assert proofs.ask([target("onnx", address) for address in (serve(), serve(reply=b"\xff"), "127.0.0.1:1")]) == {}
