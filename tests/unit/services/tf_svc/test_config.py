import dataclasses
from pathlib import Path

import pytest

from services.tf_svc import binary
from services.tf_svc.config import ConfigError, parse


def test_an_option_wins_over_its_variable_and_that_over_the_default() -> None:
    assert parse([], {}).port == 8500
    assert parse([], {"TF_SVC_PORT": "9000"}).port == 9000
    assert parse(["--port", "0"], {"TF_SVC_PORT": "9000"}).port == 0


def test_a_port_that_is_given_wins_over_the_sockets_variable() -> None:
    assert parse([], {"TF_SVC_SOCKET": "/run/x"}).socket == Path("/run/x")
    assert parse(["--port", "9000"], {"TF_SVC_SOCKET": "/run/x"}).socket is None


@pytest.mark.parametrize(
    ("arguments", "environment", "names"),
    [
        ([], {"TF_SVC_PORT": "70000"}, "TF_SVC_PORT='70000'"),
        ([], {"TF_SVC_THREADS": "many"}, "TF_SVC_THREADS='many'"),
        ([], {"TF_SVC_MAX_CALLS": "0"}, "TF_SVC_MAX_CALLS='0'"),
        ([], {"TF_SVC_MAX_CALLS": "4097"}, "TF_SVC_MAX_CALLS='4097' is not a whole number from 1 to 4096"),
        (["--socket", "/" + "x" * 107], {}, "longer than the 107 bytes"),
        ([], {"TF_SVC_SOCKET": "/" + "x" * 107}, "TF_SVC_SOCKET"),
        (["--port", "-1"], {}, "--port"),
        (["--engine", "torch"], {}, "--engine"),
    ],
)
def test_a_bad_value_ends_with_code_2_and_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str], names: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments, environment)
    said = capsys.readouterr().err
    assert (caught.value.code, said.count("\n"), names in said) == (2, 1, True)


def test_the_embedded_engine_asked_for_is_taken_though_the_real_one_is_there(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.touch(0o755)
    settings = parse([], {"TENSORFLOW_MODEL_SERVER": str(program)})
    assert binary.find(settings) == str(program)
    assert binary.find(dataclasses.replace(settings, engine="embedded")) is None


def test_a_real_server_asked_for_and_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match="TENSORFLOW_MODEL_SERVER=/nowhere is not a program"):
        binary.find(parse([], {"TENSORFLOW_MODEL_SERVER": "/nowhere"}))
    with pytest.raises(ConfigError, match="is not on PATH"):
        binary.find(dataclasses.replace(parse(["--engine", "tensorflow_model_server"], {})))


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo 'TensorFlow ModelServer: 2.20.0-rc1+sha'; echo 'TensorFlow Library: 2.20.0'", "2.20.0-rc1+sha"),
        ("exit 1", "version not reported"),
    ],
)
def test_the_real_servers_version_is_what_it_prints_first(tmp_path: Path, script: str, version: str) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert binary.version_of(str(program)) == version
