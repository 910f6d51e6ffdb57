from pathlib import Path
from typing import Any

import pytest

from servepath.settings import (
    SettingsError,
    SettingsParser,
    address,
    fixed_port,
    one_of,
    port,
    read_variable,
    variables,
)


@pytest.fixture(autouse=True)
def _only_what_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SOME_PORT", "SOME_HOST"):
        monkeypatch.delenv(name, raising=False)


def read(*argv: str) -> dict[str, Any]:
    parser = SettingsParser("program", "A program.")
    parser.setting("port", "a port", variable="SOME_PORT", kind=port)
    parser.setting("host", "a host", variable="SOME_HOST", default="127.0.0.1")
    parser.variable("threads", "SOME_THREADS", kind=port, default=8)
    return parser.read_settings(argv)


def test_an_option_wins_over_its_variable_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SOME_PORT=1\nSOME_HOST=file\n")
    assert read() == {"port": 1, "host": "file", "threads": 8}
    monkeypatch.setenv("SOME_PORT", "2")
    assert read()["port"] == 2
    assert read("--port", "3")["port"] == 3


@pytest.mark.parametrize("value", [None, ""])
def test_what_is_not_set_takes_the_default_or_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("SOME_PORT", value)
        monkeypatch.setenv("SOME_HOST", value)
    assert read("--port", "0") == {"port": 0, "host": "127.0.0.1", "threads": 8}
    with pytest.raises(SettingsError, match=r"^SOME_PORT is not set; set it in"):
        read()


def test_a_variable_that_is_empty_hides_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("A=1\nB=2\n")
    assert variables(tmp_path / "file", {"A": ""}) == {"B": "2"}


def test_the_options_that_were_given_are_known() -> None:
    parser = SettingsParser("program", "A program.")
    parser.setting("port", "a port", kind=port, default=1)
    parser.setting("host", "a host", default="127.0.0.1")
    parser.read_settings(["--port", "1"])
    assert parser.given == {"port"}


def test_a_bad_option_gets_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--port", "65536")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "program: argument --port: '65536' is not a whole number from 0 to 65535\n"


def test_the_help_says_where_else_a_setting_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    said = capsys.readouterr().out
    assert "a port (default: SOME_PORT)" in said
    assert "a host (default: SOME_HOST, else 127.0.0.1)" in said


# What reads a text, texts that it takes, and texts that it does not.
KINDS = [
    (port, {"0": 0, "65535": 65535}, ["http", "65536", "-1", "8001 ", "70 70", "\u0667"]),
    (fixed_port, {"1": 1}, ["0", "65536", "-1", "x"]),
    (address, {"h:1": "h:1", "[::1]:4": "[::1]:4", "unix:/a": "unix:/a"}, ["h", "h:", ":1", "h:0", "h:65536", "unix:"]),
    (address, {}, ["http://h:1", "::1:1", "h:one", "h:65536"]),
    (one_of(("native", "grpcio")), {"grpcio": "grpcio"}, ["envoy", "Native"]),
]


@pytest.mark.parametrize(("kind", "good", "bad"), KINDS)
def test_a_wrong_value_is_named_with_its_variable(kind: Any, good: dict[str, Any], bad: list[str]) -> None:
    assert {text: read_variable({"V": text}, "V", kind) for text in good} == good
    for text in bad:
        with pytest.raises(SettingsError) as caught:
            read_variable({"V": text}, "V", kind)
        assert str(caught.value).startswith(f"V: {text!r} is not ")
        assert str(caught.value).endswith("; set it in .env or in the environment")
