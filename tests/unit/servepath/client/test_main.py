from pathlib import Path
from typing import Any

import pytest

from servepath.client.__main__ import parse_args, values
from servepath.client.config import gateway_address


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 2", [[1, 2]]),
        ("1 2; 3 4", [[1, 2], [3, 4]]),
        ("1, 2.5", [[1, 2.5]]),
        ("-1 1e3", [[-1, 1000.0]]),
        ("[[1, 2]]", [[1, 2]]),
        ('{"a": [[1]]}', {"a": [[1]]}),
    ],
)
def test_x_is_rows_of_numbers_or_json(text: str, rows: Any) -> None:
    assert values(text) == rows


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["predict", "m", "one"], "'one' is not like '1 2'"),
        (["predict", "m", ""], "'' is not like '1 2'"),
        (["predict", "m", "1 2;"], "is not like '1 2'"),
        (["predict", "m", "[[1, 2]"], "is not like '1 2'"),
        (["predict", "m", "[" * 10**5], "is not like '1 2'"),
        (["predict", "m"], "required: x"),
        (["predict", "m", "1", "--timeout", "0"], "'0' is not a number of seconds above 0"),
        (["predict", "m", "1", "--timeout", "nan"], "'nan' is not a number of seconds above 0"),
        (["paths", "--addr", "localhost"], "'localhost' is not HOST:PORT"),
        (["paths", "--addr", "localhost:99999"], "'localhost:99999' is not HOST:PORT"),
        (["path"], "invalid choice: 'path'"),
        ([], "required: predict|paths"),
    ],
)
def test_a_bad_command_line_gets_one_line_and_code_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(words)

    stderr = capsys.readouterr().err
    assert ended.value.code == 2
    assert text in stderr
    assert stderr.count("\n") == 1


def test_the_environment_overrules_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_ADDR=file:1\n")

    assert gateway_address(tmp_path / ".env", {}) == "file:1"
    assert gateway_address(tmp_path / ".env", {"GATEWAY_ADDR": "environment:2"}) == "environment:2"


def test_an_address_that_is_none_is_refused_by_its_variables_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"GATEWAY_ADDR must be HOST:PORT and is 'nowhere'; give --addr"):
        gateway_address(tmp_path / ".env", {"GATEWAY_ADDR": "nowhere"})
