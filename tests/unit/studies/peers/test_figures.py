from collections.abc import Mapping

import pytest

from studies.peers.figures import Measured, confidence, ratio, spread, verdict, why_void
from studies.peers.h2load import Counted
from studies.peers.rows import ONE, RequiredMeasurement, Row

ROW = Row("gateway-4x8", "proxy", "gateway", "envoy", "m", ONE, threshold=1.1, target=1.5)
ADDED = Row("gateway-added", "proxy", "gateway", "envoy", "m", ONE, "p50", threshold=1.5, target=1.0, base="direct")


def counted(total: int = 10, succeeded: int = 10, data: int = 2500) -> Counted:
    return Counted(total, succeeded, 1000.0, 5.0, data)


def round_of(**measured: Measured) -> Mapping[RequiredMeasurement, Measured]:
    return {RequiredMeasurement(way, "m", ONE): value for way, value in measured.items()}


def test_a_measurement_counts_when_bytes_and_counters_say_that_each_request_was_answered() -> None:
    assert why_void(10, counted(), (250, 250), {"OK": 10, "INTERNAL": 0}) == ""


def test_probes_of_others_may_be_among_the_calls_that_the_server_counted() -> None:
    assert why_void(10, counted(), (250, 250), {"OK": 12}) == ""


def test_a_request_that_did_not_succeed_is_void() -> None:
    assert why_void(10, counted(succeeded=9), (250, 250), None) == "9 of 10 requests succeeded"


def test_fewer_requests_than_asked_for_are_void() -> None:
    assert why_void(10, counted(total=9, succeeded=9), (250, 250), None) == "9 of 10 requests succeeded"


def test_one_refusal_that_h2load_calls_a_success_is_void_for_its_missing_bytes() -> None:
    text = "2250 bytes of replies, 2500 to 2500 were right: some replies were errors"
    assert why_void(10, counted(data=2250), (250, 250), None) == text


def test_replies_that_are_too_long_are_void() -> None:
    assert why_void(10, counted(data=2601), (240, 260), None).startswith("2601 bytes of replies")


def test_a_refusal_that_only_the_server_saw_is_void() -> None:
    codes = {"OK": 10, "RESOURCE_EXHAUSTED": 1}
    assert why_void(10, counted(), (250, 250), codes) == "the server refused calls: {'RESOURCE_EXHAUSTED': 1}"


def test_a_server_that_counted_fewer_answers_is_void() -> None:
    assert why_void(10, counted(), (250, 250), {"OK": 9}) == "the server counted 9 answered calls of 10"


def test_a_ratio_is_ours_by_the_peers() -> None:
    assert ratio(ROW, round_of(gateway=Measured(rate=30.0), envoy=Measured(rate=20.0))) == 1.5


def test_a_base_is_taken_from_both_before_the_division() -> None:
    times = {"gateway": 300.0, "envoy": 250.0, "direct": 50.0}
    assert ratio(ADDED, round_of(**{way: Measured(p50_us=time) for way, time in times.items()})) == 1.25


def test_a_peer_that_took_no_more_than_the_base_gives_no_ratio() -> None:
    times = {"gateway": 300.0, "envoy": 50.0, "direct": 50.0}
    with pytest.raises(ValueError, match="envoy took no more than direct"):
        ratio(ADDED, round_of(**{way: Measured(p50_us=time) for way, time in times.items()}))


def test_a_void_measurement_gives_no_ratio() -> None:
    with pytest.raises(ValueError, match="refused"):
        ratio(ROW, round_of(gateway=Measured(rate=30.0, void="refused"), envoy=Measured(rate=20.0)))


def test_a_figure_that_was_not_measured_gives_no_ratio() -> None:
    with pytest.raises(ValueError, match="p50 was not measured"):
        ratio(ADDED, round_of(gateway=Measured(), envoy=Measured(p50_us=2.0), direct=Measured(p50_us=1.0)))


def test_the_spread_of_five_rounds_is_their_extremes_and_says_how_sure_that_is() -> None:
    assert spread([3.0, 1.0, 5.0, 2.0, 4.0]) == (1.0, 3.0, 5.0, 0.9375)


def test_the_spread_of_twenty_rounds_leaves_the_outer_five_out() -> None:
    low, middle, high, sure = spread([float(value) for value in range(1, 21)])
    assert (low, middle, high) == (6.0, 10.5, 15.0)
    assert 0.95 <= sure < 0.97


def test_an_interval_of_order_statistics_is_as_sure_as_the_binomial_says() -> None:
    # n = 10, second to ninth: 1 - 2 (1 + 10) / 1024.
    assert confidence(10, 1) == 1 - 22 / 1024


@pytest.mark.parametrize(
    ("middle", "said"), [(1.6, "target"), (1.5, "target"), (1.2, "threshold"), (1.0, "below threshold")]
)
def test_a_rate_is_compared_with_floor_and_goal(middle: float, said: str) -> None:
    assert verdict(ROW, middle) == said


@pytest.mark.parametrize(("middle", "said"), [(0.9, "target"), (1.2, "threshold"), (1.6, "below threshold")])
def test_of_a_time_less_is_better(middle: float, said: str) -> None:
    assert verdict(ADDED, middle) == said


def test_a_row_without_a_floor_has_no_verdict() -> None:
    assert verdict(ROW._replace(threshold=None, target=None), 1.0) == ""
