import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from report import __main__ as report
from servepath.artifacts.reference import Reference
from servepath.demo.__main__ import SUMMARY, comparable, conclude, load_arguments, parse_args, predict, references_of
from servepath.demo.stages import StageFailed
from servepath.results.thresholds import UNTRUSTED
from tests.manifests import SPEC

LATE = "simple_nn@onnx direct: the generator sent 9.0% of the requests more than 1 ms late, 1% is the most"


def concluded(*reasons: str) -> list[str]:
    SUMMARY.parent.mkdir(parents=True)
    SUMMARY.write_text(json.dumps({"reasons": reasons, "paths": [{"requests": 1200}, {"requests": 1199}]}))
    shown = Console(file=io.StringIO(), width=200)
    conclude(shown, 41.6)
    return shown.file.getvalue().splitlines()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_valid_run_ends_with_what_was_checked() -> None:
    assert concluded() == ["demo passed: 2 rows, 2,399 checked requests, 0 errors, 0 wrong answers, in 42 s"]


def test_a_busy_machine_passes_and_is_said_with_every_reason() -> None:
    assert concluded(LATE, "the clock was set")[1:] == [
        f"but the times are not valid: {LATE}",
        "but the times are not valid: the clock was set",
    ]


def test_the_demo_lets_pass_what_the_report_ends_with_for_right_answers() -> None:
    assert report.UNTRUSTED == UNTRUSTED


def reference(model: str, x: Any, y: Any) -> Reference:
    return Reference(model, 1, SPEC, [{"x": np.asarray(x, "f4"), "y": np.asarray(y, "f8")}])


def test_only_paths_of_models_that_compute_the_same_are_loaded() -> None:
    first, twin = reference("first", [[1, 2]], [[3]]), reference("twin", [[1, 2]], [[3.00001]])
    other, asked_else = reference("other", [[1, 2]], [[4]]), reference("asked_else", [[2, 1]], [[3]])
    assert comparable([first, other, asked_else, twin]) == ["first", "twin"]


def test_a_request_that_no_command_line_can_hold_is_said_and_not_made() -> None:
    shown = Console(file=io.StringIO(), width=200)
    predict("big@onnx", reference("big", np.zeros((2, 40_000)), [[3]]), shown)
    assert shown.file.getvalue() == "big@onnx is not predicted here: its inputs are too long for a command line\n"


def test_a_model_without_a_reference_fails_the_demo_in_one_line() -> None:
    with pytest.raises(StageFailed, match="none"):
        references_of(["none"])


def test_a_quick_run_is_what_is_asked_for_unless_options_say_otherwise() -> None:
    assert load_arguments(parse_args([])) == [
        "--rounds=3",
        "--rate=500",
        "--duration=0.8",
        "--min-requests=334",
        "--warmup=2",
    ]
    assert "--duration=2" in load_arguments(parse_args(["--duration", "2"]))


@pytest.mark.parametrize("words", [["--duration", "2"], ["--rounds", "20"]])
def test_what_a_comparison_of_a_file_chooses_itself_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(["--model", "mine.onnx", *words])
    assert ended.value.code == 2
    assert "--duration and --rounds: not beside --model" in capsys.readouterr().err
