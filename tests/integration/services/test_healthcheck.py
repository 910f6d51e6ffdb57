"""The containers' health checks, asked as Docker asks them: a process and its exit code."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from time import monotonic, sleep

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from servepath.protocols import torchserve
from services import healthcheck
from services.torch_svc import healthcheck as torch_healthcheck
from tests.limits import LONG_S

STATES = health_pb2.HealthCheckResponse


class Stand:
    """A server with grpc.health.v1, and with a Predictions call that answers `prediction` to whom it knows."""

    def __init__(self) -> None:
        self.health = health.HealthServicer()
        self.prediction = b"\x0a\x02{}"
        self.asked: list[bytes] = []
        self.at_once: threading.Barrier | None = None
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        service, name = torchserve.METHOD.strip("/").split("/")
        handlers = {name: grpc.unary_unary_rpc_method_handler(self._predict)}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _predict(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        if ("authorization", "Bearer sesame") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "who are you")
        self.asked.append(payload)
        if self.at_once is not None:
            self.at_once.wait(LONG_S)
            sleep(healthcheck.TIMEOUT_S + 0.5)
        return self.prediction

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    made.close()


def run_once(module: str, *command: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *command], capture_output=True, text=True, timeout=LONG_S, check=False
    )
    return done.returncode, done.stderr


def run(module: str, *command: str) -> tuple[int, str]:
    """Ask again while this process is too busy to answer in the time that a check has."""
    end = monotonic() + LONG_S
    while "timed out" in (found := run_once(module, *command))[1] and monotonic() < end:
        pass
    return found


def test_a_serving_server_is_healthy(stand: Stand) -> None:
    stand.health.set("", STATES.SERVING)
    assert run("services.healthcheck", stand.address) == (0, "")


def test_a_server_that_does_not_serve_is_not_healthy(stand: Stand) -> None:
    stand.health.set("", STATES.NOT_SERVING)
    assert run("services.healthcheck", stand.address) == (1, f"{stand.address} is not healthy: it is NOT_SERVING\n")


def test_nobody_at_the_address_is_not_healthy(stand: Stand) -> None:
    stand.close()
    code, said = run("services.healthcheck", stand.address)
    assert (code, "refused" in said) == (1, True)


def test_a_refused_call_is_not_healthy(stand: Stand) -> None:
    with pytest.raises(healthcheck.Unhealthy, match="it refused the call"):
        healthcheck.call(stand.address, "/no.such/Method", b"")


def test_a_server_that_talks_without_an_answer_is_given_up() -> None:
    ended = threading.Event()

    def talk(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            while not ended.wait(0.2):
                connection.sendall(b"\0\0\0\x04\0\0\0\0\0")  # SETTINGS, without any

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=talk, args=(listening,), daemon=True).start()
        code, said = run_once("services.healthcheck", f"127.0.0.1:{listening.getsockname()[1]}")
        ended.set()
    assert (code, "timed out" in said) == (1, True)


@pytest.mark.parametrize("module", ["services.healthcheck", "services.torch_svc.healthcheck"])
def test_it_imports_nothing_that_is_slow_to_import(module: str) -> None:
    code = (
        f"import {module}, sys; print(sorted({{'asyncio', 'google', 'grpc', 'hpack', 'numpy'}} & sys.modules.keys()))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=LONG_S).stdout == b"[]\n"
    )


def test_a_bad_address_is_said() -> None:
    assert run("services.healthcheck", "nowhere")[0] == 2


def questions(folder: Path, *payloads: bytes) -> list[str]:
    (folder / "health").mkdir()
    for number, payload in enumerate(payloads):
        (folder / "health" / f"model{number}").write_bytes(payload)
    (folder / "token").write_text("sesame\n")
    return ["--run-dir", str(folder), "--token-file", str(folder / "token")]


def test_torch_svc_is_healthy_when_every_model_answers_with_the_current_key(stand: Stand, tmp_path: Path) -> None:
    options = questions(tmp_path, b"one", b"t" * healthcheck.MAX_BYTES)
    assert run("services.torch_svc.healthcheck", stand.address, *options) == (0, "")
    assert sorted(stand.asked[-2:]) == [b"one", b"t" * healthcheck.MAX_BYTES]


def test_torch_svc_is_healthy_when_its_answers_are_long(stand: Stand, tmp_path: Path) -> None:
    stand.prediction = bytes(2**25)
    assert run("services.torch_svc.healthcheck", stand.address, *questions(tmp_path, b"one")) == (0, "")


def test_torch_svc_is_healthy_when_its_models_are_slow_together(stand: Stand, tmp_path: Path) -> None:
    stand.at_once = threading.Barrier(2)  # asked one after the other, the first would wait for ever
    options = questions(tmp_path, b"one", b"two")
    assert run("services.torch_svc.healthcheck", stand.address, *options) == (0, "")


def test_torch_svc_is_not_healthy_with_an_old_key(stand: Stand, tmp_path: Path) -> None:
    options = questions(tmp_path, b"one")
    (tmp_path / "token").write_text("old")
    code, said = run("services.torch_svc.healthcheck", stand.address, *options)
    assert (code, said) == (1, f"{stand.address} is not healthy: it refused the call\n")


def test_torch_svc_is_not_healthy_when_a_model_answers_with_an_error(stand: Stand, tmp_path: Path) -> None:
    stand.prediction = b'{"__metadata__":{"error":"broken"}}'
    code, said = run("services.torch_svc.healthcheck", stand.address, *questions(tmp_path, b"one"))
    assert (code, "model0 returned an error" in said) == (1, True)


def test_torch_svc_is_healthy_when_an_output_is_called_error(stand: Stand, tmp_path: Path) -> None:
    stand.prediction = b'{"__metadata__":{},"error":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4)
    assert run("services.torch_svc.healthcheck", stand.address, *questions(tmp_path, b"one")) == (0, "")


def test_torch_svc_is_not_healthy_before_it_was_ready_once(stand: Stand, tmp_path: Path) -> None:
    code, said = run("services.torch_svc.healthcheck", stand.address, "--run-dir", str(tmp_path))
    assert (code, "No such file" in said) == (1, True)


def test_the_check_asks_the_method_that_the_gateway_asks() -> None:
    assert torch_healthcheck.METHOD == torchserve.METHOD
