"""Blocks made up of a server whose capacity is known: what is over the objective begins where the rate passes it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loadtest.measurement_spec import MeasurementSpec
from loadtest.plan import Measurement, ServingPath, Turn
from loadtest.tune.score import Block, at_rising_rate, at_steady_rate, misses

MEASUREMENT = Measurement(ServingPath("m", "onnx"), "gateway", "default")
SLO_US = 20e3


def table(due_ns: Any, response_us: Any, **other: Any) -> pa.Table:
    count = len(due_ns)
    columns = {
        "scheduled_ns": due_ns,
        "sent_ns": due_ns,
        "response_us": response_us,
        "service_us": other.pop("service_us", response_us),
        "ok": np.ones(count, dtype=bool),
        "wrong": np.zeros(count, dtype=bool),
        "code": np.array(["OK"] * count),
        "phase": np.array(["measure"] * count),
    }
    return pa.table({**columns, **other})


def rising(start: float, doubling_s: float, octaves: int) -> Any:
    requests = int(start * doubling_s / np.log(2) * (2**octaves - 1))
    spec = MeasurementSpec(Turn(0, MEASUREMENT), "open-poisson", start, 10, requests, 4, "s", 1, 0)
    return np.array(MeasurementSpec(**{**_fields(spec), "doubling_s": doubling_s}).moments()[10:])


def _fields(spec: MeasurementSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def queue(due_ns: Any, capacity: float) -> Any:
    """Return the response times of a server that takes 1/capacity a request, one after another."""
    ends, end = [], 0.0
    for due in due_ns / 1e9:
        end = max(end, due) + 1 / capacity
        ends.append(end)
    return (np.array(ends) - due_ns / 1e9) * 1e6


def test_the_rate_of_a_schedule_that_rises_doubles_in_the_time_that_was_said() -> None:
    due_s = rising(500.0, 1.0, 4) / 1e9
    due_s -= due_s[0]

    counts = [int(((due_s >= second) & (due_s < second + 1)).sum()) for second in range(3)]

    assert counts[1] / counts[0] == pytest.approx(2, rel=0.15)
    assert counts[2] / counts[1] == pytest.approx(2, rel=0.1)
    assert due_s[-1] == pytest.approx(4.0, rel=0.05)


def test_the_planned_time_and_the_highest_rate_of_such_a_schedule_are_known() -> None:
    spec = MeasurementSpec(
        Turn(0, MEASUREMENT), "open-poisson", 500.0, 0, round(500 / np.log(2) * 15), 4, "s", 1, 0, doubling_s=1.0
    )

    assert spec.planned_s == pytest.approx(4.0, rel=0.01)
    assert spec.highest_rate == pytest.approx(8000, rel=0.01)
    assert MeasurementSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("capacity", [1000.0, 2000.0])
def test_a_block_at_a_rising_rate_finds_where_the_server_stops_keeping_up(capacity: float) -> None:
    due_ns = rising(400.0, 1.0, 4)

    block = at_rising_rate(table(due_ns, queue(due_ns, capacity)), SLO_US, lambda due_s: 400 * 2**due_s)

    assert block.value == pytest.approx(capacity, rel=0.25)
    assert (block.out, block.limited) == ("", False)


def test_the_ratio_of_two_blocks_is_that_of_the_servers() -> None:
    due_ns = rising(400.0, 1.0, 5)
    one, other = (
        at_rising_rate(table(due_ns, queue(due_ns, capacity)), SLO_US, lambda due_s: 400 * 2**due_s).value
        for capacity in (1000.0, 1500.0)
    )

    assert one is not None
    assert other is not None
    assert other / one == pytest.approx(1.5, rel=0.06)


def test_a_pause_of_the_machine_in_the_middle_decides_nothing() -> None:
    due_ns = rising(400.0, 1.0, 4)
    response_us = queue(due_ns, 2000.0)
    whole = at_rising_rate(table(due_ns, response_us), SLO_US, lambda due_s: 400 * 2**due_s)
    response_us[200:260] = 90e3

    paused = at_rising_rate(table(due_ns, response_us), SLO_US, lambda due_s: 400 * 2**due_s)

    assert paused.value == whole.value


def test_requests_that_were_late_when_sent_are_the_generators() -> None:
    due_ns = rising(400.0, 1.0, 3)
    response_us = queue(due_ns, 1000.0)

    block = at_rising_rate(
        table(due_ns, response_us, service_us=np.full(len(due_ns), 500.0)), SLO_US, lambda due_s: 400 * 2**due_s
    )

    assert block.limited


def test_a_server_that_is_never_well_has_no_figure() -> None:
    due_ns = rising(400.0, 1.0, 2)

    assert at_rising_rate(table(due_ns, np.full(len(due_ns), 50e3)), SLO_US, lambda _: 1.0).value is None
    assert at_rising_rate(table(due_ns[:3], np.full(3, 1.0)), SLO_US, lambda _: 1.0).value is None


def test_wrong_answers_are_what_is_wrong_with_a_block() -> None:
    due_ns = np.arange(200) * 10**6
    wrong = np.arange(200) < 3

    for block in (
        at_rising_rate(table(due_ns, np.full(200, 500.0), wrong=wrong), SLO_US, lambda _: 1.0),
        at_steady_rate(table(due_ns, np.full(200, 500.0), wrong=wrong), SLO_US),
    ):
        assert (block.out, block.failing) == ("3 of 200 answers are wrong", False)


def test_wrong_answers_before_the_measuring_are_wrong_with_a_block_as_well() -> None:
    due_ns = np.arange(200) * 10**6
    early = {"wrong": np.arange(200) < 3, "phase": ["warmup"] * 5 + ["measure"] * 195}

    for block in (
        at_rising_rate(table(due_ns, np.full(200, 500.0), **early), SLO_US, lambda _: 1.0),
        at_steady_rate(table(due_ns, np.full(200, 500.0), **early), SLO_US),
    ):
        assert (block.out, block.failing) == ("3 of 200 answers are wrong", False)


def test_a_steady_block_counts_the_median_or_the_cpu() -> None:
    steady = table(np.arange(200) * 10**6, np.full(200, 500.0))

    assert at_steady_rate(steady, SLO_US).value == pytest.approx(2000.0)
    assert at_steady_rate(steady, SLO_US, cpu_s=0.1).value == pytest.approx(2000.0)


@pytest.mark.parametrize(("late", "limited"), [(2, False), (3, True)])
def test_a_steady_block_in_which_over_one_percent_is_sent_late_is_the_generators(late: int, *, limited: bool) -> None:
    due_ns = np.arange(200) * 10**6
    sent_ns = due_ns + np.where(np.arange(200) < late, 1_500_000, 0)

    assert at_steady_rate(table(due_ns, np.full(200, 500.0), sent_ns=sent_ns), SLO_US).limited == limited


def test_a_steady_block_whose_requests_fail_is_out_by_their_code() -> None:
    ok = np.arange(200) >= 20
    code = np.where(ok, "OK", "RESOURCE_EXHAUSTED")

    block = at_steady_rate(table(np.arange(200) * 10**6, np.full(200, 500.0), ok=ok, code=code), SLO_US)

    assert (block.out, block.failing) == ("10% of its requests fail (RESOURCE_EXHAUSTED)", True)


@pytest.mark.parametrize(("default", "candidate", "out"), [(0, 60, True), (60, 60, False), (0, 2, False)])
def test_a_p99_that_certainly_misses_where_the_defaults_does_not_is_out(
    default: int, candidate: int, *, out: bool
) -> None:
    def block(over: int) -> list[Block]:
        return [Block(1.0, 1000, over, limited=False, out="")]

    assert misses({"a": block(default), "b": block(candidate)}, "a", "b") == out


def test_where_every_request_fails_the_settings_are_out_and_the_code_is_said() -> None:
    due_ns = rising(500.0, 1.0, 2)
    failed = table(
        due_ns, np.full(len(due_ns), 1e3), ok=np.zeros(len(due_ns), dtype=bool), code=["UNAVAILABLE"] * len(due_ns)
    )

    block = at_rising_rate(failed, SLO_US, lambda _: 1.0)

    assert (block.out, block.failing) == ("all its requests fail (UNAVAILABLE)", True)
