"""When a measurement ends early."""

import numpy as np
import pytest

from loadtest.measurement_spec import MeasurementSpec
from loadtest.open_loop import OVERLOADED
from loadtest.plan import Measurement, ServingPath, Turn
from loadtest.recorder import Sample
from loadtest.watch import BACKLOG, HOPELESS, Watch, growing
from servepath.results.names import OPEN_POISSON

MS = 1_000_000


def test_each_worker_gives_up_at_its_share() -> None:
    turn = Turn(0, Measurement(ServingPath("line", "onnx"), "direct"))
    order = MeasurementSpec(
        turn, OPEN_POISSON, 500.0, 0, 2995, connections=4, seed="1", workers=3, begin_ns=0, most_over=300
    )
    assert order.most_over_each == 100


def test_a_backlog_that_grows_is_seen() -> None:
    assert growing([5.0 * number for number in range(1, 11)], bearable=5.0)
    assert not growing([5.0 * number for number in range(1, 10)], bearable=5.0)  # too short to tell
    assert not growing([0.4 * number for number in range(1, 11)], bearable=5.0)  # nothing to speak of


@pytest.mark.parametrize("place", range(10))
def test_one_pause_is_no_growing_backlog(place: int) -> None:
    assert not growing([60.0 if number == place else 1.0 for number in range(10)], bearable=5.0)


def test_a_steady_or_shrinking_backlog_is_none_that_grows() -> None:
    assert not growing([50.0] * 10, bearable=5.0)
    assert not growing([100.0 - 5 * number for number in range(10)], bearable=5.0)


def queue(random: np.random.Generator, rate: float, per_s: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return when requests come to a server of `per_s` a second, and when they leave."""
    count = int(rate * seconds)
    come_s, service_s = np.cumsum(random.exponential(1 / rate, count)), random.exponential(1 / per_s, count)
    leave_s, free_s = np.empty(count), 0.0
    for number in range(count):
        free_s = max(free_s, come_s[number]) + service_s[number]
        leave_s[number] = free_s
    return come_s, leave_s


def stopped_at_s(rate: float, per_s: float, seed: int, most_over: int = 10**9) -> tuple[float | None, str]:
    """Play a queue to a watch; return when it stopped, if it did, and why."""
    come_s, leave_s = queue(np.random.default_rng(seed), rate, per_s, 5.0)
    watch, stops = Watch(0, 5000.0, most_over, rate), []
    events = sorted([(at, 0, 0.0) for at in come_s] + [(at, 1, at - came) for at, came in zip(leave_s, come_s)])  # noqa: B905
    for at_s, ends, took_s in events:
        watch.stop = lambda: stops.append(at_s)  # noqa: B023 - called at once
        now_ns = int(at_s * 1e9)
        if ends:
            watch.ended(sample(took_s * 1e6), now_ns)
        else:
            watch.sent(now_ns)
        if stops:
            return stops[0], watch.reason
    return None, watch.reason


def sample(response_us: float, *, ok: bool = True, code: str = "OK") -> Sample:
    return Sample(0, response_us, ok=ok, code=code, wrong=False, rows=1, scheduled_ns=0, response_us=response_us)


def test_an_overloaded_server_is_left_alone_within_two_seconds() -> None:
    for seed in range(20):
        at_s, reason = stopped_at_s(rate=1500, per_s=1000, seed=seed)
        assert reason == BACKLOG
        assert at_s is not None
        assert 1.0 <= at_s <= 2.0


def test_a_server_that_keeps_up_is_not_stopped_by_chance() -> None:
    assert [stopped_at_s(rate=800, per_s=1000, seed=seed) for seed in range(20)] == [(None, "")] * 20


def test_a_hopeless_block_ends_after_half_a_second() -> None:
    at_s, reason = stopped_at_s(rate=1500, per_s=1000, seed=1, most_over=100)
    assert reason == HOPELESS
    assert at_s == pytest.approx(0.5, abs=0.01)


def test_errors_count_as_over_the_objective_and_what_was_not_sent_is_not_in_flight() -> None:
    watch, stops = Watch(0, 5000.0, 2, 100.0), []
    watch.stop = lambda: stops.append(watch.reason)
    watch.ended(sample(1.0, ok=False, code=OVERLOADED), 600 * MS)
    watch.ended(sample(1.0), 610 * MS)
    assert stops == []
    watch.ended(sample(1.0, ok=False, code="UNAVAILABLE"), 620 * MS)
    assert stops == [HOPELESS]
