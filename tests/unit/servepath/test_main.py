import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from servepath.__main__ import COMMANDS, INSTALLED, ROOT, main
from tests.limits import LONG_S

CHECKOUT = Path(__file__).parents[3]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "servepath", *words]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=LONG_S, check=False)


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_names_a_program(words: tuple[str, ...]) -> None:
    module = words[0]
    spec = find_spec(module)

    assert spec is not None
    assert spec.submodule_search_locations is None or find_spec(f"{module}.__main__") is not None


def test_make_runs_every_command_by_the_name_of_its_target_or_another() -> None:
    lines = (CHECKOUT / "Makefile").read_text().splitlines()
    made = {line.split("-m servepath ")[1].split()[0].rstrip(";") for line in lines if "-m servepath " in line}

    assert made == COMMANDS.keys() - {"paths", "simulate"}


def test_words_and_exit_code_are_the_programs_own() -> None:
    done = run("predict", "simple_nn", "--addr", "nowhere", "1 2")

    assert done.returncode == 2
    assert done.stderr.startswith("servepath predict: ")
    assert "nowhere" in done.stderr


def test_help_of_a_command_is_its_programs() -> None:
    done = run("loadtest", "--help")

    assert done.returncode == 0
    assert done.stdout.startswith("usage: servepath loadtest ")


def test_an_unknown_command_is_one_line_with_the_known_ones() -> None:
    done = run("prdict")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("servepath: 'prdict' is not a command; there are demo, train, ")
    assert done.stderr.count("\n") == 1


def test_no_command_at_all_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["servepath"])

    assert main() == 2
    assert capsys.readouterr().err.startswith("servepath: a command is missing; there are ")


def test_the_console_script_and_the_root_are_those_of_the_checkout() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]

    assert ROOT == CHECKOUT
    assert project["scripts"] == {"servepath": "servepath.__main__:main"}
    assert COMMANDS.keys() >= INSTALLED


def test_the_generator_of_the_build_is_the_pinned_one() -> None:
    requires = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]["requires"]
    pins = (CHECKOUT / "constraints.txt").read_text().splitlines()

    assert [one for one in requires if "grpcio-tools" in one] == [one for one in pins if "grpcio-tools" in one]


def test_the_client_asks_for_a_protobuf_that_its_messages_can_load_with() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    made = (CHECKOUT / "servepath_pb/servepath/v1/gateway_pb2.py").read_text()
    version = re.search(r"^# Protobuf Python Version: (.+)$", made, re.MULTILINE)

    assert version is not None
    assert f"protobuf>={version[1]}" in extras["wire"]
