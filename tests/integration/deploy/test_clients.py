"""The callers of the rolling restart see an error when there is one, and none when another gateway can answer."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest

from deploy.e2e.clients import Clients
from servepath.protocols import servepath
from servepath.protocols.errors import Draining
from servepath.protocols.probes import Expected, ProbeRequest
from servepath.protocols.status import details_of
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from tests.limits import LONG_S

X = Tensor("x", "FP32", (1, 1), np.float32(2).tobytes())
Y = Expected("y", "FP32", (1, 1), np.array([[4.0]]), np.array([[1e-6]]))
PROBE_REQUEST = ProbeRequest(Request("m", 0, (X,)), 1, (Y,))


class Gateway:
    """A server of Predict. code: what it refuses with. y: what it answers otherwise."""

    def __init__(self) -> None:
        self.code, self.y = grpc.StatusCode.OK, 4.0
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service, name = servepath.METHOD.strip("/").split("/")
        handlers = {name: grpc.unary_unary_rpc_method_handler(self._predict)}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _predict(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        if self.code is grpc.StatusCode.UNAVAILABLE:
            context.set_trailing_metadata(details_of(Draining()))  # as a gateway that is replaced says it
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, "as told")
        y = Tensor("y", "FP32", (1, 1), np.float32(self.y).tobytes())
        served = Provenance("m", "onnx", "fake", "1", 1, "ab" * 32, sha256_observed=True)
        return servepath.encode_answer(servepath.decode_request(payload), Answer((y,), served))

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def gateways() -> Iterator[tuple[Gateway, Gateway]]:
    made = (Gateway(), Gateway())
    yield made
    for gateway in made:
        gateway.close()


def outcomes(gateways: tuple[Gateway, Gateway], calls: int = 200) -> set[str]:
    """Run callers until they have had so many answers of any kind, and return the kinds."""
    clients = Clients([gateway.address for gateway in gateways], {"m@onnx": PROBE_REQUEST})
    clients.start()
    give_up = time.monotonic() + LONG_S
    while clients.outcomes.total() < calls and time.monotonic() < give_up:
        time.sleep(0.01)
    clients.stop()
    return set(clients.outcomes)


def test_a_gateway_that_drains_and_ends_is_made_up_for_by_the_other(gateways: tuple[Gateway, Gateway]) -> None:
    gateways[0].code = grpc.StatusCode.UNAVAILABLE
    # As long as a gateway drains, and longer than three attempts last.
    threading.Timer(1.0, gateways[0].close).start()
    assert outcomes(gateways) == {"OK"}


def test_a_gateway_that_is_gone_is_made_up_for_by_the_other(gateways: tuple[Gateway, Gateway]) -> None:
    gateways[0].close()
    assert outcomes(gateways) == {"OK"}


@pytest.mark.slow
def test_nobody_who_answers_is_an_error(gateways: tuple[Gateway, Gateway]) -> None:
    for gateway in gateways:
        gateway.code = grpc.StatusCode.UNAVAILABLE
    assert outcomes(gateways, calls=1) == {"m@onnx UNAVAILABLE"}


def test_a_refusal_that_is_not_for_asking_again_is_an_error(gateways: tuple[Gateway, Gateway]) -> None:
    gateways[0].code = grpc.StatusCode.INTERNAL
    assert outcomes(gateways) == {"OK", "m@onnx INTERNAL"}


def test_a_wrong_answer_is_one(gateways: tuple[Gateway, Gateway]) -> None:
    gateways[1].y = 5.0
    assert outcomes(gateways) == {"OK", "m@onnx wrong answer"}
