from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from loadtest.tune.__main__ import chosen, main
from loadtest.tune.options import TuneOptions, argument_parser, duration, load_words, requests_of

DEPLOYMENTS = '[models.m]\ndefault = "onnx"\n[models.m.stacks.onnx]\n'


REDUCED = DEPLOYMENTS + '[models.m.stacks."onnx:int8"]\n[models.m.stacks."onnx:fp16"]\n'


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("45", 45), ("0.5m", 30)])
def test_a_duration_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10 m", "10d", "-1m", "0s", "1.2.3s", "nan", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a "):
        duration(text)


def test_the_defaults_are_the_rate_under_20_ms_in_ten_minutes() -> None:
    options = argument_parser().read(TuneOptions, ["all"])

    assert (options.goal, options.slo_p99_ms, options.budget, options.rate) == ("rate", 20.0, 600.0, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m@onnx", "--goal=latency"], "--goal latency needs --rate"),
        (["m@onnx", "--goal=cpu"], "--goal cpu needs --rate"),
        (["m@onnx", "--rate=5"], "--goal rate takes no --rate"),
        (["m@tfserving"], "'m@tfserving' is not a path; known: m@onnx, or all"),
        (["m@onnx", "--budget=soon"], "argument --budget: 'soon' is not a duration such as 90s, 10m or 1h"),
        (["m@onnx", "--goal=fun"], "argument --goal: invalid choice: 'fun'"),
        ([], "the following arguments are required: MODEL@STACK"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    with pytest.raises(SystemExit) as ended:
        main([*words, f"--deployments={tmp_path / 'deployments.toml'}"])

    text = capsys.readouterr().err
    assert (ended.value.code, text.count("\n")) == (2, 1)
    assert text.startswith(f"servepath tune: {said}")


@pytest.mark.parametrize(
    ("words", "paths", "tried"),
    [
        (["all", "--precision"], ["m@onnx"], "m@onnx:int8, m@onnx:fp16"),
        (["m@onnx:int8,m@onnx", "--precision"], ["m@onnx"], "m@onnx:int8"),
        (["m@onnx:int8,m@onnx:fp16", "--precision"], ["m@onnx:int8", "m@onnx:fp16"], ""),
        (["all"], ["m@onnx", "m@onnx:int8", "m@onnx:fp16"], ""),
    ],
)
def test_a_reduced_precision_that_another_path_tries_is_not_tuned_by_itself(
    words: list[str], paths: list[str], tried: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(REDUCED)
    found = chosen(argument_parser().read(TuneOptions, [*words, f"--deployments={file}"]))

    assert [str(path) for path in found] == paths
    said = f"servepath tune: tried with the path in full precision, not by itself: {tried}\n"
    assert capsys.readouterr().out == (said if tried else "")


@pytest.mark.parametrize(("given", "handed_on"), [(["--seed=7"], ["--seed=7"]), ([], [])])
def test_a_seed_is_the_payloads_as_well(given: list[str], handed_on: list[str]) -> None:
    words = load_words(argument_parser().read(TuneOptions, ["m@onnx", *given]), {"default": Path("a.env")})

    assert [word for word in words if word.startswith("--seed")] == handed_on
    assert words[0] == "--side=default=a.env"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "1 row, 4 connections"),
        (["--rows=64", "--connections=1"], "64 rows, 1 connection"),
        (["--payloads=some/words.jsonl"], "words.jsonl, 4 connections"),
    ],
)
def test_a_file_of_settings_names_the_requests(given: list[str], said: str) -> None:
    assert requests_of(argument_parser().read(TuneOptions, ["m@onnx", *given])) == said


def test_a_missing_list_of_paths_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["all", f"--deployments={tmp_path / 'none.toml'}"]) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"servepath tune: {tmp_path / 'none.toml'} is missing")
    assert text.count("\n") == 1
