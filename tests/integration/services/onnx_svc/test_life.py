"""A server under way: versions that come, calls that wait, a stop while calls are in flight."""

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servepath.artifacts.atomic import write_file
from servepath.artifacts.manifest import ArtifactError, artifact_folder
from servepath.protocols import oip
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip import oip_pb2 as pb
from services import healthcheck
from services.dataplane.engine import EngineError
from services.dataplane.listener import PortBusyError
from services.oip_server.server import OipServer
from tests.engines import Gated
from tests.limits import LONG_S
from tests.loop_thread import LoopThread, wait_until
from tests.oip_client import Client, ask, code_and_reason, y_of
from tests.tiny_onnx import linear, make_export

Start = Callable[..., OipServer]
Connect = Callable[[OipServer], Client]
StatusCode = grpc.StatusCode
# Zero rows: no engine sees them.
NOTHING = Request("simple_nn", 0, (Tensor("x", "FP32", (0, 2), b""),))


def cut_in_half(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])


def health_of(client: Client, name: str = "") -> str:
    reply = health_pb2_grpc.HealthStub(client.channel).Check(
        health_pb2.HealthCheckRequest(service=name), timeout=LONG_S
    )
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


class Caller:
    """Calls at full load on a thread of its own, and keeps what came back."""

    def __init__(self, client: Client) -> None:
        self.seen: list[tuple[int, float]] = []
        self.faults: list[grpc.RpcError] = []
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._client.infer(ask())
            except grpc.RpcError as error:
                self.faults.append(error)
            else:
                self.seen.append((answer.served.version, y_of(answer)))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def test_new_versions_are_swapped_in_without_a_failed_call(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports))
    caller = Caller(client)
    try:
        for version in range(3, 8):
            make_export(exports, "simple_nn", version, content=linear(version))
            wait_until(lambda version=version: (version, 5.0 + version) in caller.seen, f"version {version} answers")
    finally:
        caller.stop()
    assert caller.faults == []
    assert {(version, 5.0 + version) for version in range(2, 8)} == set(caller.seen)
    assert y_of(client.infer(ask(version=2))) == 7


def test_an_older_version_may_become_the_current_one_again(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports))
    write_file(exports / "simple_nn" / "current", "1")
    wait_until(lambda: client.infer(ask()).served.version == 1, "version 1 is current")


def test_a_version_that_is_gone_from_disk_is_dropped_at_the_next_swap(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    client = connect(start_server(exports))
    shutil.rmtree(artifact_folder(exports, "simple_nn", "onnx", 1))
    make_export(exports, "simple_nn", 3, content=linear(3))
    wait_until(lambda: client.infer(ask()).served.version == 3, "version 3 is current")
    assert client.refused(ask(version=1)) == (StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


def test_a_corrupt_new_version_is_refused_with_one_line_and_the_old_one_serves_on(
    start_server: Start, connect: Connect, exports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(start_server(exports))
    make_export(exports, "simple_nn", 3, content=linear(3), change=cut_in_half)
    wait_until(lambda: "simple_nn stays at version 2" in caplog.text, "the corrupt version is refused")
    make_export(exports, "keras_dense", 2, content=linear(20))
    wait_until(lambda: y_of(client.infer(ask(model="keras_dense"))) == 25, "the watcher looked again")
    assert y_of(client.infer(ask())) == 7
    assert client.refused(ask(version=3)) == (StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    (line,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "model.onnx does not match its manifest" in line


def test_a_refused_version_that_is_exported_again_is_taken(
    start_server: Start, connect: Connect, exports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(start_server(exports))
    make_export(exports, "simple_nn", 3, content=linear(3), change=cut_in_half)
    wait_until(lambda: "simple_nn stays at version 2" in caplog.text, "the corrupt version is refused")
    folder = artifact_folder(exports, "simple_nn", "onnx", 3)
    folder.rename(folder.with_name("old"))  # its inode stays taken, so the new folder has another
    make_export(exports, "simple_nn", 3, content=linear(3))
    wait_until(lambda: y_of(client.infer(ask())) == 8, "the fixed version answers")


def test_a_corrupt_current_version_is_fatal_at_the_start(start_server: Start, exports: Path) -> None:
    make_export(exports, "simple_nn", 3, content=linear(3), change=cut_in_half)
    with pytest.raises(ArtifactError, match=r"3/model\.onnx does not match its manifest; remove .* make export"):
        start_server(exports)


def test_a_corrupt_older_version_is_left_out_at_the_start(
    start_server: Start, connect: Connect, exports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_export(exports, "simple_nn", 3, content=linear(3), current=False, change=cut_in_half)
    client = connect(start_server(exports))
    assert y_of(client.infer(ask())) == 7
    assert client.refused(ask(version=3)) == (StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    assert "simple_nn version 3 is not served" in caplog.text


def test_a_file_that_onnx_runtime_cannot_read_is_fatal_at_the_start(start_server: Start, exports: Path) -> None:
    make_export(exports, "simple_nn", 3, content=b"not ONNX, but hashed")
    with pytest.raises(EngineError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        start_server(exports)


def test_a_second_server_on_the_same_port_is_refused(start_server: Start, exports: Path) -> None:
    first = start_server(exports)
    with pytest.raises(PortBusyError, match=f"cannot listen on 127.0.0.1:{first.port}: the port is in use"):
        start_server(exports, port=first.port)
    with pytest.raises(PortBusyError, match=f"127.0.0.1:{first.metrics_port} for metrics: Address already in use"):
        start_server(exports, metrics_port=first.metrics_port)


def test_the_containers_health_check_is_answered_by_every_front(start_server: Start, exports: Path) -> None:
    healthcheck.check(f"127.0.0.1:{start_server(exports).port}")


def test_draining_answers_calls_in_flight_and_refuses_new_ones(
    start_server: Start, connect: Connect, exports: Path, loop: LoopThread
) -> None:
    gated = Gated()
    server = start_server(exports, gated)
    client = connect(server)
    in_flight = client.start(ask())
    assert gated.engine.entered.acquire(timeout=LONG_S)
    assert health_of(client, "simple_nn@onnx") == "SERVING"
    draining = loop.start(server.drain())
    wait_until(lambda: health_of(client) == "NOT_SERVING", "health says NOT_SERVING")
    wait_until(lambda: client_is_refused(client), "a new call is refused")
    assert health_of(client, "simple_nn@onnx") == "NOT_SERVING"
    assert not client.control("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert not draining.done()
    gated.gate.set()
    assert y_of(oip.decode_answer(in_flight.result(LONG_S), "simple_nn", "")) == 5
    draining.result(LONG_S)


def client_is_refused(client: Client) -> bool:
    """Return whether a call that no engine sees is refused because of the drain."""
    try:
        client.infer(NOTHING)
    except grpc.RpcError as error:
        return code_and_reason(error) == (StatusCode.UNAVAILABLE, "DRAINING")
    return False


def test_health_and_control_rpcs_do_not_wait_behind_the_engine(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    gated = Gated()
    client = connect(start_server(exports, gated, threads=1, max_queue=8))
    calls = [client.start(ask()) for _ in range(4)]
    assert gated.engine.entered.acquire(timeout=LONG_S)
    assert health_of(client) == "SERVING"
    assert client.control("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert not any(call.done() for call in calls)
    gated.gate.set()
    assert all(call.result(LONG_S) for call in calls)


@pytest.mark.parametrize("how", ["expires", "is cancelled"])
def test_a_call_that_ends_in_the_queue_never_reaches_the_engine(
    start_server: Start, connect: Connect, exports: Path, how: str
) -> None:
    gated = Gated()
    server = start_server(exports, gated, threads=1)
    client = connect(server)
    first = client.start(ask(1))
    assert gated.engine.entered.acquire(timeout=LONG_S)
    gone = client.start(ask(2), timeout=0.3 if how == "expires" else LONG_S)
    if how == "expires":
        with pytest.raises(grpc.RpcError) as caught:
            gone.result(LONG_S)
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    else:
        wait_until(lambda: server.in_flight == 2, "the call waits")
        gone.cancel()
    wait_until(lambda: server.in_flight == 1, "the server knows that it ended")
    last = client.start(ask(3))
    gated.gate.set()
    assert first.result(LONG_S)
    assert last.result(LONG_S)
    assert gated.engine.rows == [1, 3]


def test_a_call_whose_deadline_passes_in_the_engine_keeps_its_thread_until_the_engine_is_done(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    gated = Gated()
    server = start_server(exports, gated, threads=1)
    client = connect(server)
    client.infer(NOTHING)  # connects, so that the next call does not expire on its way
    first = client.start(ask(1), timeout=5)
    assert gated.engine.entered.acquire(timeout=LONG_S)
    assert first.code() is StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.in_flight == 0, "the server knows that it ended")
    with pytest.raises(grpc.RpcError):
        client.start(ask(2), timeout=0.3).result(LONG_S)
    wait_until(lambda: server.in_flight == 0, "the server knows that it ended")
    gated.gate.set()
    assert y_of(client.infer(ask(3))) == 7
    assert gated.engine.rows == [1, 3]


def test_a_call_beyond_threads_and_queue_is_refused_at_once(
    start_server: Start, connect: Connect, exports: Path
) -> None:
    gated = Gated()
    server = start_server(exports, gated, threads=1, max_queue=1)
    client = connect(server)
    calls = [client.start(ask()), client.start(ask())]
    wait_until(lambda: server.in_flight == 2, "one computes and one waits")
    assert client.refused(ask()) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    gated.gate.set()
    assert all(call.result(LONG_S) for call in calls)


def test_an_engine_that_fails_costs_its_call_and_tells_the_caller_nothing(
    start_server: Start, connect: Connect, exports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gated = Gated()
    gated.gate.set()
    gated.engine.fault = lambda: RuntimeError("secret")
    client = connect(start_server(exports, gated))
    with pytest.raises(grpc.RpcError) as caught:
        client.infer(ask())
    assert code_and_reason(caught.value) == (StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in str(caught.value.details())
    assert "secret" in caplog.text
    gated.engine.fault = None
    assert y_of(client.infer(ask())) == 5
