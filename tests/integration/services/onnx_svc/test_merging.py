"""Calls that wait for the engine are computed in one run, and health does not wait for any of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath.protocols import oip
from services.oip_server.server import OipServer
from tests.engines import Gated
from tests.limits import LONG_S
from tests.loop_thread import wait_until
from tests.oip_client import Client, ask, y_of

Start = Callable[..., OipServer]
Connect = Callable[[OipServer], Client]


def test_waiting_calls_are_computed_in_one_run(start_server: Start, connect: Connect, exports: Path) -> None:
    gated = Gated()
    server = start_server(exports, gated, threads=1)
    client = connect(server)
    calls = [client.start(ask(1))]
    assert gated.engine.entered.acquire(timeout=LONG_S)
    calls += [client.start(ask(n, model="simple_nn@onnx" if n % 2 else "simple_nn")) for n in range(2, 8)]
    wait_until(lambda: server.in_flight == 7, "six calls wait")
    gated.gate.set()
    assert [y_of(oip.decode_answer(call.result(LONG_S), "", "")) for call in calls] == [n + 4 for n in range(1, 8)]
    assert len(gated.engine.rows) == 2


@pytest.mark.slow
def test_many_calls_at_once_get_their_own_answers_and_health_answers_between_them(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    server = start_server(exports)
    client, other = connect(server), connect(server)
    health = health_pb2_grpc.HealthStub(other.channel)
    for begin in range(0, 1000, 100):
        calls = [client.start(ask(n)) for n in range(begin, begin + 100)]
        reply = health.Check(health_pb2.HealthCheckRequest(service="simple_nn"), timeout=LONG_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        answers = [y_of(oip.decode_answer(call.result(LONG_S), "", "")) for call in calls]
        assert answers == [n + 4 + 2 for n in range(begin, begin + 100)]
