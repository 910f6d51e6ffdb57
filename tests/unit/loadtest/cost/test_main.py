"""`python -m loadtest.cost` and its words."""

from pathlib import Path

import pytest

from loadtest.cost.__main__ import main, parse_args
from loadtest.cost.price import Price


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--price-per-hour=1"], "--price-per-hour and --currency must be given together"),
        (["--currency=EUR"], "--price-per-hour and --currency must be given together"),
        (["--paths=gone@onnx"], "--paths: 'gone@onnx' is not a path; known: simple_nn@torchserve, "),
        (["--deployments=gone.toml"], "gone.toml is missing; give the list of paths"),
        (["--starts=0"], "'0' is not a whole number from 1"),
    ],
)
def test_a_wrong_word_ends_with_2_and_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert (said in error, error.count("\n")) == (True, 1)


def test_a_price_is_a_number_and_a_currency() -> None:
    args = parse_args(["--price-per-hour=0.1", "--currency=EUR", "--paths=simple_nn@onnx,simple_nn@onnx"])
    assert (args.price, args.names) == (Price(0.1, "EUR"), [("simple_nn", "onnx")])
    assert (parse_args([]).price, parse_args([]).rate) == (None, None)  # those of the scorecard and of the run


def test_an_earlier_scorecard_that_cannot_be_read_is_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "scorecard.json").write_text("{")
    assert main([str(tmp_path), f"--run-dir={tmp_path / 'run'}"]) == 1
    said = capsys.readouterr()
    assert ("scorecard.json cannot be read" in said.err, said.err.count("\n"), said.out) == (True, 1, "")


def test_tuned_settings_are_looked_for_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    words = ["--tuned", f"--tuned-folder={tmp_path}", f"--run-dir={tmp_path / 'run'}"]
    assert main([str(tmp_path), *words]) == 1
    assert f"{tmp_path} has no tuned settings of a path in deployments.toml" in capsys.readouterr().err


def test_without_a_run_there_is_nothing_to_add_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "holds no run; run: make loadtest" in capsys.readouterr().err
