import pytest

from studies.peers.__main__ import main, parse_args
from studies.peers.rows import ROWS


def test_without_options_every_row_is_measured_in_five_rounds() -> None:
    options = parse_args([])
    assert (options.only, options.rounds, options.seconds) == (ROWS, 5, 2.0)


def test_rows_are_chosen_by_name_and_pattern_in_their_own_order() -> None:
    chosen = parse_args(["--only", "onnx-p50,gateway-*"]).only
    assert [row.name for row in chosen] == ["gateway-added", "gateway-1x1", "gateway-4x8", "gateway-8x32", "onnx-p50"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "gone"], "unknown row 'gone'; see --list"),
        (["--rounds", "0"], "'0' is not a whole number from 1"),
        (["--seconds", "nan"], "'nan' is not a number of seconds above 0"),
    ],
)
def test_a_wrong_value_ends_with_2_and_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"{said}\n")


def test_the_list_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [row.name for row in ROWS]
