"""Real servers with an injected delay: they answer correctly, say what they are, and are stopped."""

import socket
from pathlib import Path

import pytest
from dotenv import dotenv_values

from studies.injected_delay.servers import CommandFailed, running
from tests.oip_client import Client, ask, y_of
from tests.tiny_onnx import linear, make_export


def port(file: Path) -> int:
    address = dotenv_values(file)["ONNX_SVC_ADDR"] or ""
    return int(address.rpartition(":")[2])


def ask_both(exports: Path, out: Path, ports: list[int]) -> None:
    """Call a server of each side, and then get interrupted."""
    with running({"a": 0.0, "injected": 20.5}, exports, out) as files:
        for side, delay in (("a", "0"), ("injected", "20.5")):
            ports.append(port(files[side]))
            answer = Client(ports[-1]).infer(ask(1, 2))
            assert y_of(answer) == 5.5
            assert answer.served.engine == f"onnxruntime with an injected delay of {delay} us"
        raise KeyboardInterrupt


@pytest.mark.slow
def test_each_side_answers_correctly_and_names_its_delay_until_the_run_is_interrupted(tmp_path: Path) -> None:
    make_export(tmp_path / "exports", "simple_nn", content=linear(0.5))
    ports: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        ask_both(tmp_path / "exports", tmp_path / "out", ports)
    assert len(ports) == 2
    for number in ports:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", number), 1)


def test_a_server_that_cannot_start_is_named_with_its_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(CommandFailed, match=r"side a is not ready.*make export"),
        running({"a": 0.0}, tmp_path, tmp_path / "out"),
    ):
        pass
