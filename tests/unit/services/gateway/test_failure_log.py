import json
from typing import Any

import pytest

from servepath.protocols.errors import BadInput, Cancelled, Overloaded
from servepath.protocols.types import Request
from services.dataplane.backend import Call
from services.gateway.failure_log import LINES_PER_S, FailureLog
from tests.serving_fakes import X

PATH = ("m", "onnx")


class Clock:
    def __init__(self) -> None:
        self.now = 100.5

    def __call__(self) -> float:
        return self.now


def call(request_id: str = "") -> Call:
    made = Call(Request("m", 0, (X,), request_id=request_id), 0)
    made.rows, made.queued_ns = 3, 42_000
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records]


def test_a_failed_call_is_one_line_of_json_without_its_inputs(caplog: pytest.LogCaptureFixture) -> None:
    FailureLog().record(PATH, call("order-7"), Overloaded("full"), 1234)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "\n" not in record.getMessage()
    assert lines(caplog) == [
        {
            "model": "m",
            "stack": "onnx",
            "code": "RESOURCE_EXHAUSTED",
            "reason": "OVERLOADED",
            "rows": 3,
            "total_us": 1234,
            "queue_us": 42,
            "request_id": "order-7",
            "trace_id": "",
            "left_out": 0,
        }
    ]


def test_a_request_that_could_not_be_read_has_a_line_too(caplog: pytest.LogCaptureFixture) -> None:
    FailureLog().record(("_unknown", "_unknown"), None, BadInput("no", "MESSAGE"), 0)
    (line,) = lines(caplog)
    assert (line["model"], line["reason"], line["rows"], line["request_id"]) == (
        *("_unknown", "BAD_INPUT.MESSAGE", 0, ""),
    )


def test_a_request_id_with_line_breaks_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    FailureLog().record(PATH, call("a\nb\u2028"), Overloaded("full"), 1)
    assert caplog.records[0].getMessage().isprintable()
    assert lines(caplog)[0]["request_id"] == "a\nb\u2028"


def test_a_caller_who_went_away_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    FailureLog().record(PATH, call(), Cancelled(), 1)
    assert caplog.records == []


def test_under_load_some_are_left_out_and_the_next_line_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = FailureLog(clock)
    for _ in range(1000):
        log.record(PATH, call(), Overloaded("full"), 1)
    assert [line["left_out"] for line in lines(caplog)] == [0] * LINES_PER_S
    caplog.clear()
    clock.now += 1
    for _ in range(2):
        log.record(PATH, call(), Overloaded("full"), 1)
    assert [line["left_out"] for line in lines(caplog)] == [1000 - LINES_PER_S, 0]


def test_each_path_and_reason_has_a_bound_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog(Clock())
    for path in (PATH, ("m", "litert")):
        for error in (Overloaded("full"), BadInput("no", "SHAPE")):
            for _ in range(LINES_PER_S + 1):
                log.record(path, call(), error, 1)
    assert len(caplog.records) == 4 * LINES_PER_S
