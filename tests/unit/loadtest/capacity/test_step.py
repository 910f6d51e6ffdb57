"""What the rows of a trial, and of an overload, show."""

from typing import Any

import numpy as np
import pytest

from loadtest.capacity import overload, step
from loadtest.capacity.search import Outcome
from loadtest.open_loop import OVERLOADED
from loadtest.plan import Measurement, ServingPath, Turn
from loadtest.recorder import Recorder, Sample

FACTS = {"generator_cpu": 0.3, "stopped": ""}
PLANNED = 2995
MS = 1_000_000


def sample(number: int, service_ms: float = 1.0, late_ms: float = 0.0, **more: Any) -> Sample:
    due_ns = number * MS
    fields = {"ok": True, "code": "OK", "wrong": False, "rows": 1} | more
    return Sample(due_ns + int(late_ms * MS), service_ms * 1e3, **fields).scheduled(due_ns)


def judged(samples: list[Sample], **facts: Any) -> step.Step:
    recorder = Recorder(Turn(0, Measurement(ServingPath("line", "onnx"), "direct")), measure_from_ns=0)
    recorder.samples = samples
    return step.judge(recorder.table("run"), [FACTS | facts], rate=1000.0, slo_us=5000.0, planned=PLANNED)


def tried(over: int, **more: Any) -> list[Sample]:
    """Return a whole try of which the first `over` requests are as `more` says."""
    return [sample(number, **(more if number < over else {})) for number in range(PLANNED)]


@pytest.mark.parametrize(("over", "outcome"), [(17, Outcome.MET), (18, Outcome.UNSURE), (44, Outcome.NOT_MET)])
def test_so_many_requests_over_the_objective_decide(over: int, outcome: Outcome) -> None:
    found = judged(tried(over, service_ms=6.0))
    assert (found.outcome, found.over, found.requests) == (outcome, over, PLANNED)
    assert found.p99_ms == (6.0 if over > 29 else 1.0)


def test_one_error_in_2995_requests_is_too_many_to_be_sure() -> None:
    found = judged(tried(1, ok=False, code="UNAVAILABLE"))
    assert (found.outcome, found.errors, found.over) == (Outcome.UNSURE, 1, 1)


def test_one_wrong_answer_ends_it() -> None:
    assert judged(tried(1, wrong=True)).outcome is Outcome.WRONG


def test_one_wrong_answer_before_the_measuring_ends_it_as_well() -> None:
    found = judged([sample(-1, wrong=True), *tried(0)])
    assert (found.outcome, found.wrong_answers, found.requests) == (Outcome.WRONG, 1, PLANNED)


def test_a_try_that_fails_only_by_the_generators_lateness_is_invalid() -> None:
    # Below 1 % of late requests: the rule of the report alone would let it decide.
    found = judged(tried(29, late_ms=6.0) + [sample(PLANNED + number, service_ms=6.0) for number in range(3)])
    assert found.late_share < 0.01
    assert found.outcome is Outcome.INVALID


@pytest.mark.parametrize(
    ("samples", "facts"),
    [
        (tried(100, late_ms=6.0), {}),
        (tried(100, service_ms=6.0), {"generator_cpu": 0.95}),
        ([], {"stopped": "backlog"}),
    ],
)
def test_a_late_or_busy_generator_decides_nothing(samples: list[Sample], facts: dict[str, Any]) -> None:
    assert judged(samples, **facts).outcome is Outcome.INVALID


def test_requests_that_the_generator_did_not_send_are_not_the_server_s_fault() -> None:
    unsent = {"ok": False, "code": OVERLOADED, "service_ms": 0.0}
    assert judged(tried(150, **unsent)).outcome is Outcome.INVALID
    assert judged(tried(150, ok=False, code="UNAVAILABLE")).outcome is Outcome.NOT_MET


def test_what_is_met_in_spite_of_a_late_generator_is_met() -> None:
    assert judged(tried(100, late_ms=2.0), generator_cpu=0.95).outcome is Outcome.MET


def test_a_try_that_was_ended_early_is_not_met() -> None:
    found = judged(tried(20, service_ms=6.0)[:700], stopped="backlog")
    assert (found.outcome, found.stopped, found.requests) == (Outcome.NOT_MET, "backlog", 700)
    assert judged(tried(600, service_ms=6.0)[:600], stopped="backlog").p99_ms is None  # below the floor


def test_the_schema_s_words_come_out() -> None:
    found = judged(tried(0)).to_dict()
    assert (found["met"], found["outcome"], found["stopped"]) == (True, "met", "")


def overloaded(samples: list[Sample], over: int, **facts: Any) -> dict[str, Any]:
    recorder = Recorder(Turn(0, Measurement(ServingPath("line", "onnx"), "direct")), measure_from_ns=0)
    recorder.samples = samples
    return overload.judge(recorder.table("run"), [FACTS | facts], factor=1.5, overload=over, slo_us=5000.0)


def test_an_overload_counts_what_is_right_in_time_and_what_is_refused() -> None:
    refused = {"ok": False, "code": "RESOURCE_EXHAUSTED"}
    during = [sample(n, **(refused if n % 4 == 0 else {"service_ms": 9.0} if n % 4 == 1 else {})) for n in range(1001)]
    after = [sample(1001 + n, service_ms=9.0 if n < 200 else 1.0) for n in range(1500)]
    found = overloaded(during + after, 1001)
    assert found["goodput_rps"] == 500.0
    assert found["refused_share"] == 251 / 1001
    assert found["codes"] == {"OK": 750, "RESOURCE_EXHAUSTED": 251}
    # A window may begin when 1 % of it, five requests, are still slow.
    assert found["recovery_s"] == pytest.approx(0.2 - 0.005, abs=0.002)
    assert found["valid"]
    assert not overloaded(during + after, 1001, generator_cpu=0.95)["valid"]


def test_what_nobody_answered_in_time_was_not_refused() -> None:
    samples = [sample(number, ok=False, code="DEADLINE_EXCEEDED") for number in range(100)]
    assert overloaded(samples, 100)["refused_share"] == 0.0
    assert overloaded(samples, 100)["recovery_s"] is None


def test_a_path_that_stays_slow_does_not_recover() -> None:
    due_s = np.arange(1, 2000) / 1000
    assert overload.recovery_s(due_s, np.arange(1, 2000) % 20 > 0) is None
    assert overload.recovery_s(due_s, np.ones(1999, dtype=bool)) == 0.001
    assert overload.recovery_s(due_s[:100], np.ones(100, dtype=bool)) is None  # no whole window
