"""What rows give: numbers worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest

from loadtest.recorder import SCHEMA
from report.stats import Parts, Samples, SchedulingDelay, lateness, parts, throughput_rps


def table(*rows: dict[str, object]) -> pa.Table:
    usual = {
        "run": "r",
        "round": 0,
        "path": "m@s",
        "model": "m",
        "stack": "s",
        "via": "direct",
        "phase": "measure",
        "sent_ns": 0,
        "scheduled_ns": None,
        "service_us": 1.0,
        "response_us": None,
        "ok": True,
        "code": "OK",
        "wrong": False,
        "rows": 1,
        "version": 1,
        "sha256": "ab",
        "engine": "e",
        "engine_version": "1",
        "gateway_us": None,
        "backend_us": None,
        "queue_us": None,
    }
    return pa.Table.from_pylist([usual | row for row in rows], schema=SCHEMA)


def test_throughput_counts_the_time_of_each_round_and_not_between_them() -> None:
    def one(begin_ns: int) -> pa.Table:
        return table({"sent_ns": begin_ns}, {"sent_ns": begin_ns + 999_000_000, "service_us": 1000.0})

    assert throughput_rps(Samples({0: one(0), 1: one(60_000_000_000)})) == 2.0


def test_lateness_is_sent_less_scheduled_of_what_was_measured() -> None:
    times = [{"scheduled_ns": 0, "sent_ns": late_us * 1000} for late_us in (10, 20, 30, 2000)]
    warmup = {"phase": "warmup", "scheduled_ns": 0, "sent_ns": 10**9}
    assert lateness(Samples({0: table(warmup, *times)})) == SchedulingDelay(20.0, 2000.0, 0.25)


@pytest.mark.parametrize("count", [7, 14, 99, 100, 101, 1000, 1001])
def test_lateness_has_the_reports_percentiles_in_any_order_of_the_rows(count: int) -> None:
    late_us = np.random.default_rng(1).permutation(count) + 1
    rows = [{"scheduled_ns": 0, "sent_ns": late * 1000} for late in late_us.tolist()]
    found = lateness(Samples({0: table(*rows)}))
    assert found is not None
    assert (found.p50_us, found.p99_us) == (-(-count // 2), -(-99 * count // 100))


def test_a_closed_loop_has_no_lateness() -> None:
    assert lateness(Samples({0: table({}, {})})) is None


def test_the_clients_part_is_what_gateway_and_backend_leave() -> None:
    rows = [{"service_us": service_us, "gateway_us": 100, "backend_us": 500} for service_us in (700.0, 900.0)]
    assert parts(Samples({0: table(*rows)})) == Parts(200.0, 100.0, None, 500.0)
    assert parts(Samples({0: table({"service_us": 700.0})})) == Parts(700.0, None, None, None)


def test_the_wait_in_the_gateway_is_a_part_of_its_own() -> None:
    rows = [{"service_us": 800.0, "gateway_us": 100, "backend_us": 500, "queue_us": waited_us} for waited_us in (0, 60)]
    assert parts(Samples({0: table(*rows)})) == Parts(200.0, 70.0, 30.0, 500.0)


def test_a_wrong_answer_in_one_round_takes_the_latencies_of_all() -> None:
    samples = Samples({0: table({}), 1: table({"wrong": True})})
    assert samples.times("service_us").size == 0
    assert samples.by_round("service_us") == {}
    assert parts(samples) is None


def test_rounds_keep_their_latencies_apart() -> None:
    found = Samples({0: table({"service_us": 1.0}), 4: table({"service_us": 2.0}, {"ok": False})})
    assert {number: values.tolist() for number, values in found.by_round("service_us").items()} == {
        0: [1.0],
        4: [2.0],
    }
