"""python -m services.onnx_svc as its callers see it: exit codes, one clear line, a stop that loses nothing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from servepath.protocols import oip
from services.oip_server.server import OipServer
from tests.limits import LONG_S
from tests.oip_client import Client, ask, y_of

ROOT = Path(__file__).parents[4]
COMMAND = (sys.executable, "-m", "services.onnx_svc")
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(exports: Path, front: str) -> Iterator[Spawn]:
    """Start onnx_svc on free ports; whatever still runs after the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = (*COMMAND, "--models", str(exports), "--port", "0", "--metrics-port", "0", *arguments)
        environment = {**os.environ, "FRONT": front}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def port_of(process: "subprocess.Popen[str]") -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+), metrics on", line):
            return int(found[1])
    raise AssertionError("onnx_svc ended before it listened")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_after_every_call_was_answered(
    spawn: Spawn, front: str, number: signal.Signals
) -> None:
    # grpcio's stop cancels what it has read and not yet handed over; the quiet moment of the drain makes that rare.
    codes = {"native": {StatusCode.UNAVAILABLE}, "grpcio": {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}}
    process = spawn("--device", "cpu")
    client = Client(port_of(process))
    assert y_of(client.infer(ask())) == 7
    calls = [client.start(ask()) for _ in range(200)]
    os.kill(process.pid, number)
    for call in calls:
        try:
            assert y_of(oip.decode_answer(call.result(LONG_S), "simple_nn", "")) == 7
        except grpc.RpcError as error:
            assert error.code() in codes[front]  # noqa: PT017 - came after the signal
    assert process.wait(LONG_S) == 0
    client.channel.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--models", "/nowhere"), r"onnx_svc: /nowhere holds no ONNX artifact; run: make export"),
        (("--port", "{busy}"), r"onnx_svc: cannot listen on 127\.0\.0\.1:\d+: the port is in use"),
        (("--metrics-port", "{busy}"), r"onnx_svc: cannot listen on 127\.0\.0\.1:\d+ for metrics"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line_and_exit_code_1(
    spawn: Spawn, shared_server: OipServer, arguments: tuple[str, ...], line: str
) -> None:
    process = spawn(*(argument.format(busy=shared_server.port) for argument in arguments))
    _, log = process.communicate(timeout=LONG_S)
    assert re.match(line, log.splitlines()[-1])
    assert "Traceback" not in log
    assert process.returncode == 1


@pytest.mark.slow
def test_a_corrupt_current_version_is_one_line_and_exit_code_1(spawn: Spawn, exports: Path) -> None:
    file = exports / "simple_nn" / "onnx" / "2" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    process = spawn()
    _, log = process.communicate(timeout=LONG_S)
    assert log.splitlines()[-1].startswith(f"onnx_svc: {file} does not match its manifest; remove ")
    assert "Traceback" not in log
    assert process.returncode == 1


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


@pytest.mark.slow
@pytest.mark.skipif(has_nvidia_driver(), reason="this machine has an NVIDIA driver; the refusal is for those without")
def test_cuda_asked_for_where_there_is_none_is_refused_with_its_mend(spawn: Spawn) -> None:
    process = spawn("--device", "cuda")
    _, log = process.communicate(timeout=LONG_S)
    last = log.splitlines()[-1]
    assert last.startswith("onnx_svc: --device cuda: ONNX Runtime cannot use CUDA here")
    assert last.endswith("or take --device auto")
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--device", "tpu"),
        ("--port", "65536"),
        ("--port", "-1"),
        ("--threads", "0"),
        ("--drain-s", "nan"),
        ("--front", "x"),
        ("--workers", "0"),
        ("--x",),
    ],
)
def test_a_bad_value_is_exit_code_2(spawn: Spawn, arguments: tuple[str, ...]) -> None:
    process = spawn(*arguments)
    _, log = process.communicate(timeout=LONG_S)
    assert (process.returncode, log.count("\n"), arguments[0] in log) == (2, 1, True)
