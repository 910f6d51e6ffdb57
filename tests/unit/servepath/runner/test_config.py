import sys
from pathlib import Path

import pytest

from servepath.protocols.deployments import DeploymentsError
from servepath.runner.config import PORTS, RunPaths, Service, read_external, read_services
from servepath.settings import SettingsError

ROOT = Path(__file__).parents[4]
PLACES = RunPaths(Path("/run-dir"), Path("exports"), Path("deployments.toml"))


def read(**environment: str) -> dict[str, Service]:
    return read_services(PLACES, ROOT / ".env", environment)


def test_the_env_file_gives_every_service_its_ports_and_command() -> None:
    services = read()

    assert list(services) == ["torch_svc", "tf_svc", "onnx_svc", "litert_svc", "gateway"]
    assert services["torch_svc"].ports == (7070, 7071, 8080, 8081, 8082)
    assert services["gateway"].command == (
        *(sys.executable, "-m", "services.gateway", "--port", "50051"),
        *("--deployments", "deployments.toml", "--exports", "exports", "--metrics-port", "9464"),
        *("--state", "/run-dir/gateway"),
    )
    assert services["onnx_svc"].address == "127.0.0.1:8001"


def test_the_environment_overrules_the_env_file() -> None:
    service = read(TF_SVC_PORT="18500", TF_SVC_ADDR="127.0.0.1:18500")["tf_svc"]

    assert (service.address, service.ports) == ("127.0.0.1:18500", (18500,))
    assert service.command[3:] == ("--port", "18500", "--models", "exports", "--run-dir", "/run-dir/tf_svc")


def test_a_unix_socket_takes_the_place_of_the_port() -> None:
    services = read(TF_SVC_ADDR="unix:/run-dir/tf_svc/grpc.sock")

    assert (services["tf_svc"].address, services["tf_svc"].ports) == ("unix:/run-dir/tf_svc/grpc.sock", ())
    assert services["tf_svc"].command[3:5] == ("--socket", "/run-dir/tf_svc/grpc.sock")
    assert services["gateway"].environment["TF_SVC_ADDR"] == "unix:/run-dir/tf_svc/grpc.sock"


def test_a_service_may_have_an_interpreter_of_its_own() -> None:
    services = read(TORCH_SVC_PYTHON="/other/python")

    assert services["torch_svc"].command[0] == "/other/python"
    assert services["onnx_svc"].command[0] == sys.executable


def test_torch_svc_and_the_gateway_agree_on_the_key_file_of_the_run_dir() -> None:
    variable = "TORCH_SVC_TOKEN_FILE"

    assert {service.environment[variable] for service in read().values()} == {"/run-dir/torch_svc/token"}
    assert read(**{variable: "/key"})["gateway"].environment[variable] == "/key"


@pytest.mark.parametrize("variable", [port.variable for ports in PORTS.values() for port in ports])
@pytest.mark.parametrize("value", ["0", "65536", "x", "-1"])
def test_a_port_that_is_none_is_refused_by_its_variables_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: '{value}' is not a whole number from 1 to 65535"):
        read(**{variable: value})


def test_an_address_elsewhere_than_the_port_is_refused_by_name() -> None:
    with pytest.raises(
        SettingsError, match=r"^ONNX_SVC_ADDR is '127\.0\.0\.1:8001' and ONNX_SVC_PORT is 18001: set both"
    ):
        read(ONNX_SVC_PORT="18001")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8001", "8001", ":8001"])
def test_what_is_no_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(SettingsError, match=f"^ONNX_SVC_ADDR: '{address}' is not HOST:PORT or unix:PATH"):
        read(ONNX_SVC_ADDR=address)


def test_a_port_given_twice_is_refused_by_both_names() -> None:
    with pytest.raises(SettingsError, match=r"^ONNX_SVC_METRICS_PORT and TORCH_SVC_HTTP_PORT are both 8080"):
        read(ONNX_SVC_METRICS_PORT="8080")


EXTERNAL = """
[servers.theirs]
protocol = "oip"
[models.m]
default = "theirs"
[models.m.stacks.theirs]
"""


def test_an_external_server_has_a_variable_and_an_address(tmp_path: Path) -> None:
    (tmp_path / "deployments.toml").write_text(EXTERNAL)

    found = read_external(tmp_path / "deployments.toml", ROOT / ".env", {"THEIRS_ADDR": "far:7"})

    assert found == {"theirs": ("THEIRS_ADDR", "far:7")}
    assert read_external(ROOT / "deployments.toml", ROOT / ".env", {}) == {}


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        (EXTERNAL, {}, SettingsError("THEIRS_ADDR is not set")),
        (EXTERNAL, {"THEIRS_ADDR": "far"}, SettingsError("THEIRS_ADDR: 'far' is not HOST:PORT")),
        (EXTERNAL.replace("oip", "rest"), {}, DeploymentsError('protocol in .servers.theirs. must be "oip"')),
    ],
)
def test_an_external_server_without_address_or_protocol_is_refused(
    tmp_path: Path, text: str, environment: dict[str, str], said: Exception
) -> None:
    (tmp_path / "deployments.toml").write_text(text)

    with pytest.raises(type(said), match=str(said)):
        read_external(tmp_path / "deployments.toml", ROOT / ".env", environment)


def test_a_promotions_state_is_where_the_variable_says_or_in_the_run_folder() -> None:
    assert read(GATEWAY_STATE="/kept")["gateway"].command[-2:] == ("--state", "/kept")
    assert read()["gateway"].command[-2:] == ("--state", "/run-dir/gateway")
