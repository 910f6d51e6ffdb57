"""python -m services.onnx_svc --workers N: several processes on one port that look like one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import psutil
import pytest
from grpc import StatusCode

from servepath.protocols import oip
from tests.limits import LONG_S
from tests.loop_thread import wait_until
from tests.oip_client import Client, ask, code_and_reason, y_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(exports: Path, front: str, tmp_path: Path) -> Iterator[Spawn]:
    """Start two workers on free ports; what still runs after the test is killed, the parent first."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = (sys.executable, "-m", "services.onnx_svc", "--models", str(exports), "--device", "cpu")
        with (tmp_path / "log").open("w") as log:
            words = (*command, "--port", "0", "--metrics-port", "0", "--workers", "2", *arguments)
            environment = {**os.environ, "FRONT": front}
            started.append(subprocess.Popen(words, cwd=ROOT, env=environment, stderr=log, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


class Running:
    """The ports of a started parent, as its log names them."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        pattern = r"2 workers listen on 127\.0\.0\.1:(\d+), metrics on 127\.0\.0\.1:(\d+)"
        wait_until(lambda: bool(re.search(pattern, log.read_text())) or process.poll() is not None, "it listens")
        found = re.search(pattern, log.read_text())
        assert found is not None, log.read_text()
        self.port, self.metrics_port = int(found[1]), int(found[2])
        self.process = psutil.Process(process.pid)

    def workers(self) -> set[psutil.Process]:
        return set(self.process.children())

    def call(self, times: int) -> None:
        """Call over new connections, so that both workers are asked."""
        for _ in range(times):
            client = Client(self.port)
            assert y_of(client.infer(ask())) == 7
            client.channel.close()

    def metrics(self) -> dict[str, float]:
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=LONG_S) as reply:
            lines = reply.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


OK = 'onnx_svc_requests_total{code="OK",model="simple_nn"}'


def test_workers_share_a_port_and_are_counted_as_one(spawn: Spawn, tmp_path: Path) -> None:
    running = Running(spawn(), tmp_path / "log")
    assert len(running.workers()) == 2
    running.call(40)
    wanted = {
        OK: 40.0,
        'onnx_svc_request_duration_seconds_count{model="simple_nn"}': 40.0,
        'onnx_svc_model_version{model="simple_nn",worker="1"}': 2.0,
        'onnx_svc_model_version{model="simple_nn",worker="2"}': 2.0,
    }
    # A scrape leaves a worker out that does not answer it in two seconds.
    wait_until(lambda: wanted.items() <= running.metrics().items(), "both workers are counted")


def test_a_worker_that_is_killed_is_replaced_and_what_it_counted_stays(spawn: Spawn, tmp_path: Path) -> None:
    running = Running(spawn(), tmp_path / "log")
    running.call(20)
    wait_until(lambda: running.metrics().get(OK) == 20, "both workers are counted")
    before = running.workers()
    killed = min(before, key=lambda worker: worker.pid)
    killed.kill()
    wait_until(
        lambda: len(running.workers() - {killed}) == 2 and log_has(tmp_path, "listening on", 3), "another is there"
    )
    wait_until(lambda: 'worker="3"' in "".join(running.metrics()), "its metrics are there")
    running.call(20)
    wait_until(lambda: running.metrics().get(OK) == 40, "all three workers are counted")
    assert "a worker ended with exit code -9; starting another" in (tmp_path / "log").read_text()


def log_has(folder: Path, text: str, times: int) -> bool:
    return (folder / "log").read_text().count(text) >= times


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_every_worker_and_ends_with_exit_code_0(
    spawn: Spawn, tmp_path: Path, front: str, number: signal.Signals
) -> None:
    # grpcio's stop cancels what it has read and not yet handed over; the quiet moment of the drain makes that rare.
    codes = {"native": {StatusCode.UNAVAILABLE}, "grpcio": {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}}
    process = spawn()
    running = Running(process, tmp_path / "log")
    workers = running.workers()
    clients = [Client(running.port) for _ in range(4)]
    assert [y_of(client.infer(ask())) for client in clients] == [7] * 4
    calls = [client.start(ask()) for _ in range(50) for client in clients]
    os.kill(process.pid, number)
    for call in calls:
        try:
            assert y_of(oip.decode_answer(call.result(LONG_S), "simple_nn", "")) == 7
        except grpc.RpcError as error:
            assert code_and_reason(error)[0] in codes[front]  # noqa: PT017 - came after the signal
    assert process.wait(LONG_S) == 0
    assert not [worker for worker in workers if worker.is_running()]
    for client in clients:
        client.channel.close()


def test_workers_end_when_their_parent_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn()
    workers = Running(process, tmp_path / "log").workers()
    process.kill()
    wait_until(lambda: not any(worker.is_running() for worker in workers), "the workers ended")
    assert process.wait(LONG_S) == -signal.SIGKILL


def test_a_busy_port_and_a_worker_that_cannot_start_are_one_line_and_exit_code_1(spawn: Spawn, tmp_path: Path) -> None:
    running = Running(spawn(), tmp_path / "log")
    second = spawn("--port", str(running.port))
    assert second.wait(LONG_S) == 1
    assert (tmp_path / "log").read_text().splitlines()[-1] == (
        f"onnx_svc: cannot listen on 127.0.0.1:{running.port}: the port is in use, or the address is not this "
        "machine's; stop its holder, or give another --host or --port"
    )
    third = spawn("--models", "/nowhere")
    assert third.wait(LONG_S) == 1
    log = (tmp_path / "log").read_text()
    assert "onnx_svc: /nowhere holds no ONNX artifact; run: make export" in log
    assert log.splitlines()[-1] == "onnx_svc: a worker ended with exit code 1 before it listened"
    assert "Traceback" not in log
