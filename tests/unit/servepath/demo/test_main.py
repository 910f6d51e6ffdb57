import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from report import __main__ as report
from servepath.demo.__main__ import SUMMARY, conclude
from servepath.results.thresholds import UNTRUSTED

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
