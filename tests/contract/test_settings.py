"""Every process reads its settings by the same reader, and ends in the same way where one is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servepath.protocols.stacks import STACKS
from servepath.settings import SettingsError
from services.gateway import config as gateway
from services.litert_svc import config as litert_svc
from services.onnx_svc import config as onnx_svc
from services.tf_svc import config as tf_svc
from services.torch_svc import config as torch_svc
from tests.contract.registries import ROOT
from tests.limits import LONG_S

Read = Callable[[list[str]], Any]
SERVICES: dict[str, Read] = {
    "gateway": gateway.read_settings,
    "onnx_svc": onnx_svc.read_settings,
    "litert_svc": litert_svc.read_settings,
    "tf_svc": tf_svc.read_settings,
    "torch_svc": torch_svc.read_settings,
}


@pytest.fixture(autouse=True)
def _the_repositorys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in list(os.environ):
        if name.startswith(("GATEWAY_", "TORCH_SVC_", "TF_SVC_", "ONNX_SVC_", "LITERT_SVC_", "FRONT", "TENSORFLOW_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("read", SERVICES.values(), ids=SERVICES)
def test_the_repositorys_defaults_are_complete(read: Read) -> None:
    settings = read([])
    assert settings.host == "127.0.0.1"


# The option, the variable, a value of each, and the setting that they are read into.
BOTH = [
    ("gateway", "--port", "GATEWAY_PORT", "port"),
    ("gateway", "--metrics-port", "GATEWAY_METRICS_PORT", "metrics_port"),
    ("onnx_svc", "--port", "ONNX_SVC_PORT", "port"),
    ("onnx_svc", "--metrics-port", "ONNX_SVC_METRICS_PORT", "metrics_port"),
    ("litert_svc", "--port", "LITERT_SVC_PORT", "port"),
    ("litert_svc", "--metrics-port", "LITERT_SVC_METRICS_PORT", "metrics_port"),
    ("tf_svc", "--port", "TF_SVC_PORT", "port"),
    ("torch_svc", "--port", "TORCH_SVC_PORT", "ports.inference"),
]


@pytest.mark.parametrize(("service", "option", "variable", "setting"), BOTH)
def test_an_option_wins_over_its_variable(
    service: str, option: str, variable: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*argv: str) -> Any:
        value = SERVICES[service](list(argv))
        for name in setting.split("."):
            value = getattr(value, name)
        return value

    monkeypatch.setenv(variable, "9001")
    assert found() == 9001
    assert found(option, "9002") == 9002


def test_the_gateways_state_is_in_a_folder_of_its_own_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway.read_settings([]).state == Path(".run/gateway")
    monkeypatch.setenv("GATEWAY_STATE", "elsewhere")
    assert gateway.read_settings([]).state == Path("elsewhere")
    assert gateway.read_settings(["--state", "there"]).state == Path("there")


@pytest.mark.parametrize("service", ["gateway", "onnx_svc", "litert_svc"])
def test_the_front_is_native_unless_told(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = SERVICES[service]
    assert read([]).front == "native"
    monkeypatch.setenv("FRONT", "grpcio")
    assert read([]).front == "grpcio"
    assert read(["--front", "native"]).front == "native"


@pytest.mark.parametrize("service", ["gateway", "onnx_svc", "litert_svc"])
def test_nobody_loads_models_by_a_call_unless_told(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = SERVICES[service]
    assert read([]).model_loading == "off"
    monkeypatch.setenv(f"{service.upper()}_MODEL_LOADING", "on")
    assert read([]).model_loading == "on"
    assert read(["--model-loading", "off"]).model_loading == "off"
    monkeypatch.setenv(f"{service.upper()}_MODEL_LOADING", "yes")
    with pytest.raises(SettingsError, match=f"{service.upper()}_MODEL_LOADING"):
        read([])


@pytest.mark.parametrize("service", ["gateway", "onnx_svc", "litert_svc"])
def test_metrics_listen_where_the_service_does_unless_told(service: str) -> None:
    read = SERVICES[service]
    assert read([]).metrics_host == "127.0.0.1"
    assert read(["--host", "10.0.0.1"]).metrics_host == "10.0.0.1"
    assert read(["--host", "10.0.0.1", "--metrics-host", "127.0.0.1"]).metrics_host == "127.0.0.1"


def test_every_option_of_onnx_svc_reaches_its_setting() -> None:
    options = "--models m --host ::1 --port 1 --metrics-host ::1 --metrics-port 2 --device cuda"
    options += " --threads 3 --max-queue 4 --default-deadline-s 5.5 --drain-s 6 --front grpcio --workers 2"
    assert SERVICES["onnx_svc"](options.split()) == onnx_svc.Settings(
        Path("m"),
        1,
        2,
        "::1",
        "::1",
        threads=3,
        max_queue=4,
        default_deadline_s=5.5,
        drain_s=6,
        front="grpcio",
        workers=2,
        device="cuda",
    )


def test_the_port_of_tf_svc_wins_over_the_variable_of_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_SVC_SOCKET", "/run/x")
    assert SERVICES["tf_svc"]([]).socket == Path("/run/x")
    assert SERVICES["tf_svc"](["--port", "9000"]).socket is None
    assert SERVICES["tf_svc"](["--port", "9000", "--socket", "/run/y"]).socket == Path("/run/y")


def test_the_key_of_torch_svc_is_in_its_run_folder_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SERVICES["torch_svc"](["--run-dir", "/run/one"]).token_file == Path("/run/one/token")
    monkeypatch.setenv("TORCH_SVC_TOKEN_FILE", "/else/key")
    assert SERVICES["torch_svc"](["--run-dir", "/run/one"]).token_file == Path("/else/key")
    assert SERVICES["torch_svc"](["--token-file", "/a/key"]).token_file == Path("/a/key")


WRONG = [
    *(("gateway", stack.address_variable, "nowhere") for stack in STACKS.values()),
    ("gateway", "GATEWAY_METRICS_PORT", "x"),
    ("gateway", "FRONT", "envoy"),
    ("onnx_svc", "ONNX_SVC_METRICS_PORT", "65536"),
    ("onnx_svc", "FRONT", "envoy"),
    ("tf_svc", "TF_SVC_PORT", "70000"),
    ("tf_svc", "TF_SVC_THREADS", "many"),
    ("tf_svc", "TF_SVC_MAX_CALLS", "4097"),
    ("tf_svc", "TF_SVC_SOCKET", "/" + "x" * 107),
    *(("torch_svc", port.variable, "0") for port in STACKS["torchserve"].ports),
]


@pytest.mark.parametrize(("service", "variable", "value"), WRONG)
def test_a_wrong_variable_is_named(service: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: '{value}' .*; set it in .env or in the environment$"):
        SERVICES[service]([])


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("gateway", "--front envoy"),
        ("gateway", "--port x"),
        *(("gateway", f"--workers {number}") for number in ("0", "65", "two")),
        ("onnx_svc", "--device gpu"),
        ("onnx_svc", "--threads 0"),
        ("onnx_svc", "--drain-s nan"),
        ("tf_svc", f"--socket /{'x' * 107}"),
        ("tf_svc", "--port -1"),
        ("tf_svc", "--engine torch"),
        *(("torch_svc", f"--port {port}") for port in ("0", "70000", "x")),
        ("torch_svc", "--token-minutes 0"),
        ("torch_svc", "--token-renew-s -1"),
        ("torch_svc", "--token-renew-s 60 --token-minutes 1"),
        ("torch_svc", "--nonsense"),
    ],
)
def test_a_wrong_option_gets_one_line_and_exit_code_2(
    service: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        SERVICES[service](words.split())
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n"), words.split(maxsplit=1)[0] in said) == (2, 1, True)


PROGRAMS = [
    ("services.gateway", "ONNX_SVC_ADDR"),
    ("services.onnx_svc", "ONNX_SVC_PORT"),
    ("services.tf_svc", "TF_SVC_PORT"),
    ("services.torch_svc", "TORCH_SVC_HTTP_PORT"),
    ("loadtest --paths all", "ONNX_SVC_ADDR"),
    ("servepath.client paths", "GATEWAY_ADDR"),
    ("servepath.runner status", "TF_SVC_PORT"),
]


@pytest.mark.parametrize(("program", "variable"), PROGRAMS)
def test_every_process_ends_with_exit_code_1_and_one_line(program: str, variable: str) -> None:
    command = [sys.executable, "-m", *program.split()]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {variable: "nowhere"},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{variable}: 'nowhere' is not " in done.stderr
