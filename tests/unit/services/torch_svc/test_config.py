"""Settings of torch_svc: what is read, what is refused."""

from pathlib import Path

import pytest

from services.torch_svc import __main__ as program
from services.torch_svc.config import (
    PORTS,
    ConfigError,
    Ports,
    child_environment,
    explain_port,
    read_environment,
    read_ports,
    read_token_file,
)

GOOD = {port.variable: str(7000 + index) for index, port in enumerate(PORTS.values())}


def test_five_ports_come_from_five_variables() -> None:
    assert read_ports(GOOD) == Ports(7000, 7001, 7002, 7003, 7004)


def test_the_repositorys_defaults_are_complete() -> None:
    root = Path(__file__).parents[4]
    assert len(set(vars_of(read_ports(read_environment(root))))) == 5


def vars_of(ports: Ports) -> list[int]:
    return [getattr(ports, field) for field in PORTS]


def test_an_explicit_inference_port_wins() -> None:
    assert read_ports(GOOD, 9).inference == 9


@pytest.mark.parametrize("value", ["", "0", "65536", "-1", "http", "70 70", "\u0667"])
def test_an_impossible_port_is_refused_with_its_variables_name(value: str) -> None:
    with pytest.raises(ConfigError, match="TORCH_SVC_METRICS_PORT"):
        read_ports(GOOD | {"TORCH_SVC_METRICS_PORT": value})


def test_a_busy_ports_explanation_names_its_use_and_its_variable() -> None:
    assert explain_port(read_ports(GOOD), 7003) == (
        "7003 (HTTP management; set TORCH_SVC_MANAGEMENT_PORT to change it)"
    )


def test_the_environment_overrides_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("SP_ONE=file\nSP_TWO=file\n")
    monkeypatch.setenv("SP_TWO", "environment")
    found = read_environment(tmp_path)
    assert (found["SP_ONE"], found["SP_TWO"]) == ("file", "environment")


def test_the_token_file_is_in_the_run_folder_unless_its_variable_says_otherwise() -> None:
    assert read_token_file({}, Path("/run/one")) == Path("/run/one/token")
    assert read_token_file({"TORCH_SVC_TOKEN_FILE": "/else/key"}, Path("/run/one")) == Path("/else/key")


def test_variables_that_would_overrule_our_settings_do_not_reach_torchserve() -> None:
    found = child_environment({"TS_CONFIG_FILE": "x", "LOG_LOCATION": "y", "METRICS_LOCATION": "z", "HOME": "/root"})
    assert found == {"HOME": "/root"}


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "0"],
        ["--port", "70000"],
        ["--port", "x"],
        ["--token-minutes", "0"],
        ["--token-renew-s", "-1"],
        ["--token-minutes", "1", "--token-renew-s", "60"],
        ["--nonsense"],
    ],
)
def test_a_bad_value_ends_with_exit_code_2_and_names_the_option(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("sys.argv", ["torch_svc", *words])
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 2
    assert words[-2 if len(words) > 1 else 0] in capsys.readouterr().err
