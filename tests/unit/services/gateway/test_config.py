from pathlib import Path

import pytest

from servepath.protocols.stacks import STACKS
from services.gateway.config import SettingsError, read_settings


@pytest.fixture(autouse=True)
def _addresses_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRONT", raising=False)
    for stack in STACKS.values():
        monkeypatch.setenv(stack.address_variable, "127.0.0.1:1")


def test_the_front_is_native_unless_environment_or_command_line_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = ["--port", "0", "--metrics-port", "0"]
    assert read_settings(ports).front == "native"
    monkeypatch.setenv("FRONT", "grpcio")
    assert read_settings(ports).front == "grpcio"
    assert read_settings([*ports, "--front", "native"]).front == "native"
    monkeypatch.setenv("FRONT", "envoy")
    with pytest.raises(SettingsError, match="FRONT must be one of native, grpcio, got 'envoy'"):
        read_settings(ports)


def test_metrics_listen_where_the_gateway_does_unless_told_otherwise() -> None:
    ports = ["--port", "0", "--metrics-port", "0"]
    assert read_settings(ports).metrics_host == "127.0.0.1"
    assert read_settings([*ports, "--host", "10.0.0.1"]).metrics_host == "10.0.0.1"
    assert read_settings([*ports, "--host", "10.0.0.1", "--metrics-host", "127.0.0.1"]).metrics_host == "127.0.0.1"


@pytest.mark.parametrize("address", ["http://h:1", "h", "h:", ":1", "h:0", "h:65536", "::1:1"])
def test_an_address_that_is_none_is_named_with_its_variable(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNX_SVC_ADDR", address)
    with pytest.raises(SettingsError, match=f"ONNX_SVC_ADDR must be HOST:PORT or unix:PATH, got '{address}'"):
        read_settings(["--port", "0", "--metrics-port", "0"])


@pytest.mark.parametrize(
    "arguments", [("--front", "envoy"), ("--port", "x"), ("--workers", "0"), ("--workers", "65"), ("--workers", "two")]
)
def test_a_bad_value_ends_the_program_with_code_2(arguments: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(arguments)
    assert caught.value.code == 2
