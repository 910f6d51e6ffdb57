"""A run that goes on until it is known: when it looks, when it ends, and what run.json says of that."""

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from loadtest import run
from loadtest.plan import ServingPath, Turn, measurements_of
from loadtest.progress import Report
from loadtest.run import RunError
from loadtest.until_known import EVERY, FIRST, Limit, asking, load

MEASUREMENTS = measurements_of([ServingPath("m", "onnx")], ("direct", "gateway"))
EVER = 10**9
# From which round until before which other one, and what is counted then.
Faults = Mapping[str, tuple[int, int, dict[str, int]]]


class Sessions:
    """Measures nothing. faults: what is counted otherwise from a round on, by the measurement's name."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def turn(self, turn: Turn) -> dict[str, Any]:
        measured = {"requests": 225, "errors": 0, "wrong_answers": 0, "warmup_wrong_answers": 0, "generator_cpu": 0.1}
        begin, until, changed = self.faults.get(str(turn.measurement), (0, 0, {}))
        counted = measured | (changed if begin <= turn.round < until else {})
        return {"round": turn.round, **turn.measurement.to_dict(), **counted}


class Answers:
    """Knows at the n-th look, and keeps what run.json said at each."""

    def __init__(self, folder: Path, known_at: int) -> None:
        self.folder, self.known_at = folder, known_at
        self.seen: list[dict[str, Any]] = []

    def __call__(self) -> dict[str, Any]:
        self.seen.append(json.loads((self.folder / "run.json").read_text()))
        known = len(self.seen) >= self.known_at
        return {"known": known, "needed_minutes": 0.0 if known else 40.0, "said": f"look {len(self.seen)}"}


def loaded(
    results: Path, minutes: float, began_s_ago: float = 0.0, known_at: int = EVER, faults: Faults = MappingProxyType({})
) -> tuple[Answers, Any, str]:
    """Load, and return what asked, run.json, and what was said."""
    started = run.start(results, MEASUREMENTS, {"seed": 3, "rounds": 999, "load_model": "closed loop"})
    ask, output = Answers(started.folder, known_at), io.StringIO()
    limit = Limit(0.05, minutes, time.monotonic() - began_s_ago)
    with Report(Console(file=output, width=120), len(MEASUREMENTS), 999) as report:
        load(started, MEASUREMENTS, Sessions(faults), report, limit=limit, ask=ask)
    return ask, json.loads((started.folder / "run.json").read_text()), output.getvalue()


def test_it_ends_at_the_look_at_which_all_is_known(tmp_path: Path) -> None:
    _, facts, said = loaded(tmp_path, minutes=60.0, known_at=2)
    assert (facts["complete"], facts["rounds"], facts["sequential"]["ended"]) == (True, FIRST + EVERY, "known")
    assert [look["rounds"] for look in facts["sequential"]["looks"]] == [FIRST, FIRST + EVERY]
    assert [look["needed_minutes"] for look in facts["sequential"]["looks"]] == [40.0, 0.0]
    assert len(facts["measurements"]) == len(MEASUREMENTS) * facts["rounds"]
    assert "look 1\n" in said


def test_a_look_finds_its_own_rounds_in_run_json_which_is_incomplete_until_the_end(tmp_path: Path) -> None:
    ask, _, _ = loaded(tmp_path, minutes=60.0, known_at=2)
    assert [len(seen["measurements"]) for seen in ask.seen] == [3 * FIRST, 3 * (FIRST + EVERY)]
    assert [seen["sequential"]["looks"][-1]["rounds"] for seen in ask.seen] == [FIRST, FIRST + EVERY]
    assert not any(seen["complete"] for seen in ask.seen)


def test_it_ends_with_a_last_look_when_a_further_round_would_take_too_long(tmp_path: Path) -> None:
    _, facts, _ = loaded(tmp_path, minutes=1.0, began_s_ago=60.0)
    assert (facts["complete"], facts["rounds"], facts["sequential"]["ended"]) == (True, 1, "time")
    assert facts["sequential"]["looks"] == [{"rounds": 1, "share": 1.0, "needed_minutes": 40.0}]


@pytest.mark.parametrize(
    ("fault", "rounds", "ended"),
    [
        ((0, 1, {"wrong_answers": 1}), FIRST, "wrong answers"),
        ((0, 1, {"warmup_wrong_answers": 1}), FIRST, "wrong answers"),
        ((FIRST, EVER, {"wrong_answers": 225}), FIRST + EVERY, "wrong answers"),
        ((0, EVER, {"errors": 225}), FIRST, "failed requests"),
        ((FIRST, FIRST + 1, {"errors": 1}), FIRST + EVERY, "failed requests"),
    ],
)
def test_it_ends_at_the_look_at_which_no_further_round_would_make_it_valid(
    tmp_path: Path, fault: tuple[int, int, dict[str, int]], rounds: int, ended: str
) -> None:
    _, facts, said = loaded(tmp_path, minutes=60.0, known_at=3, faults={"m@onnx.direct": fault})
    assert (facts["complete"], facts["rounds"], facts["sequential"]["ended"]) == (True, rounds, ended)
    assert facts["sequential"]["looks"][-1]["rounds"] == rounds
    assert f"the run is not valid and ends here: {ended} of m@onnx.direct\n" in said


def test_a_run_with_a_wrong_answer_is_not_known_whatever_the_report_knows(tmp_path: Path) -> None:
    _, facts, _ = loaded(tmp_path, 60.0, known_at=1, faults={"m@onnx.gateway": (0, 1, {"wrong_answers": 1})})
    assert facts["sequential"]["ended"] == "wrong answers"


def test_a_look_is_due_after_the_first_rounds_and_then_from_time_to_time() -> None:
    limit = Limit(0.05, 10.0, begin_s=100.0)
    due = [rounds for rounds in range(1, 70) if limit.share(rounds, round_s=2.0, now_s=160.0) is not None]
    assert due == [33, 45, 57, 69]
    assert limit.share(33, round_s=2.0, now_s=160.0) == pytest.approx(0.1)
    assert limit.share(34, round_s=2.0, now_s=699.0) == 1.0


def test_a_report_that_cannot_look_ends_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="the report cannot look"), asking(tmp_path / "missing") as ask:
        ask()
    assert "missing" in capfd.readouterr().err
