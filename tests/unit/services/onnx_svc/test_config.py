from pathlib import Path

import pytest

from services.onnx_svc.config import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def _no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ONNX_SVC_PORT", "ONNX_SVC_METRICS_PORT", "FRONT"):
        monkeypatch.delenv(name, raising=False)


def test_ports_come_from_the_env_file() -> None:
    Path(".env").write_text("ONNX_SVC_PORT=8001\nONNX_SVC_METRICS_PORT=8002\n")
    assert read_settings([]) == Settings(Path("artifacts/exports"), 8001, 8002)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("ONNX_SVC_PORT=1\nONNX_SVC_METRICS_PORT=2\n")
    monkeypatch.setenv("ONNX_SVC_PORT", "11")
    monkeypatch.setenv("ONNX_SVC_METRICS_PORT", "12")
    settings = read_settings(["--metrics-port", "0"])
    assert (settings.port, settings.metrics_port) == (11, 0)


@pytest.mark.parametrize("value", [None, "", "http", "65536", "-1", "8001 "])
def test_a_missing_or_wrong_port_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("ONNX_SVC_PORT", value)
    with pytest.raises(SettingsError, match="ONNX_SVC_PORT: a port is a whole number from 0 to 65535"):
        read_settings(["--metrics-port", "0"])


def test_the_front_is_native_unless_environment_or_command_line_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = ["--port", "0", "--metrics-port", "0"]
    assert read_settings(ports).front == "native"
    monkeypatch.setenv("FRONT", "grpcio")
    assert read_settings(ports).front == "grpcio"
    assert read_settings([*ports, "--front", "native"]).front == "native"
    monkeypatch.setenv("FRONT", "envoy")
    with pytest.raises(SettingsError, match="FRONT must be one of native, grpcio, got 'envoy'"):
        read_settings(ports)


def test_metrics_listen_where_the_service_does_unless_told_otherwise() -> None:
    ports = ["--port", "0", "--metrics-port", "0"]
    assert read_settings(ports).metrics_host == "127.0.0.1"
    assert read_settings([*ports, "--host", "10.0.0.1"]).metrics_host == "10.0.0.1"
    assert read_settings([*ports, "--host", "10.0.0.1", "--metrics-host", "127.0.0.1"]).metrics_host == "127.0.0.1"


def test_every_option_reaches_its_setting() -> None:
    options = "--models m --host ::1 --port 1 --metrics-host ::1 --metrics-port 2 --device cuda"
    options += " --threads 3 --max-queue 4 --default-deadline-s 5.5 --drain-s 6 --front grpcio --workers 2"
    assert read_settings(options.split()) == Settings(
        Path("m"),
        1,
        2,
        "cuda",
        "::1",
        "::1",
        threads=3,
        max_queue=4,
        default_deadline_s=5.5,
        drain_s=6,
        front="grpcio",
        workers=2,
    )
