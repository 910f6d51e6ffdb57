import argparse
from dataclasses import dataclass

import pytest

from servepath.cli.arguments import Parser, positive, seconds, whole


def test_a_wrong_word_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="it")
    parser.add_argument("--rate", type=positive)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--rate", "0"])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "it: argument --rate: '0' is not a number above 0\n")


@dataclass(frozen=True, kw_only=True)
class Speed:
    rate: float
    rounds: int


def test_a_command_line_is_read_into_its_dataclass_which_must_have_every_argument() -> None:
    parser = Parser(prog="it")
    parser.add_argument("--rate", type=positive)
    parser.add_argument("--rounds", type=whole(1), default=3)
    assert parser.read(Speed, ["--rate", "2.5"]) == Speed(rate=2.5, rounds=3)
    parser.add_argument("--new")
    with pytest.raises(TypeError, match="new"):
        parser.read(Speed, ["--rate", "2.5"])


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1e999"])
def test_what_is_no_finite_number_above_0_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a number above 0$"):
        positive(text)
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a number of seconds above 0$"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5", "1_0", " 1", "+1", "\u0661", "11"])
def test_what_is_no_whole_number_within_its_bounds_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a whole number from 1 to 10$"):
        whole(1, 10)(text)


def test_what_fits_is_read() -> None:
    assert (positive("1e-3"), seconds("2"), whole(0)("0"), whole(1, 10)("10")) == (0.001, 2.0, 0, 10)
    assert whole(0)("123456789012345678901234567890") == 123456789012345678901234567890
