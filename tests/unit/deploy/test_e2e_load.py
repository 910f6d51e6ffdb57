"""A load test of the containers passes only when it is the one that was asked for, and every answer was right."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.e2e.load import judged
from deploy.engine import EngineError

ROW = {"model": "m", "stack": "onnx", "requests": 1000, "errors": 0, "wrong_answers": 0}


def write(folder: Path, *rows: dict[str, Any], environment: str = "compose", complete: bool = True) -> Path:
    run = {"complete": complete, "fairness": {"run": {"environment": {"class": "subject", "value": environment}}}}
    (folder / "run.json").write_text(json.dumps(run))
    summary = {"valid": False, "reasons": ["the generator sent late"], "paths": rows}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_right_answers_pass_and_late_times_are_said(tmp_path: Path) -> None:
    said = judged(write(tmp_path, ROW, ROW), "compose")
    assert said.startswith("2 rows, 2,000 correct responses, no error; times are not valid: the generator sent late")


@pytest.mark.parametrize("row", [ROW | {"errors": 1}, ROW | {"wrong_answers": 1}, ROW | {"requests": 0}])
def test_one_call_that_failed_or_was_answered_wrongly_fails(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="errors, incorrect responses or no rows at m@onnx"):
        judged(write(tmp_path, ROW, row), "compose")


def test_no_row_fails(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no rows at all"):
        judged(write(tmp_path), "compose")


def test_another_run_than_the_one_asked_for_fails(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not the requested run, or is incomplete"):
        judged(write(tmp_path, ROW, environment="local"), "compose")
    with pytest.raises(EngineError, match="is not the requested run, or is incomplete"):
        judged(write(tmp_path, ROW, complete=False), "compose")
