import pytest

from services.dataplane.counters import DurationSeries
from services.gateway.recent import INTERVAL_S, KEPT, Recent, quantile

BOUNDS = (0.001, 0.01, 0.1)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def series() -> DurationSeries:
    return DurationSeries((1000, 10_000, 100_000), bytes(1001) + bytes([1]) * 4000)


def test_what_was_counted_longer_than_a_minute_ago_is_forgotten_and_no_more_is_kept() -> None:
    clock, counted = Clock(), series()
    recent = Recent(lambda: [counted], clock)
    for _ in range(5 * KEPT):
        counted.observe(5)
        clock.now += INTERVAL_S
        recent.keep()
    counted.observe(5_000)
    assert recent.since() == (KEPT - 1) * INTERVAL_S == 60
    assert recent.counts(counted) == [KEPT - 1, 1, 0, 0]
    assert len(recent._kept) == KEPT


def test_before_a_minute_has_passed_everything_is_recent() -> None:
    clock, counted = Clock(), series()
    recent = Recent(lambda: [counted], clock)
    counted.observe(5)
    clock.now = 3
    assert (recent.since(), recent.counts(counted)) == (3, [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.0005),
        ([0, 10, 0, 0], 0.5, 0.0055),
        ([98, 1, 1, 0], 0.5, 0.001 * 50 / 98),
        ([98, 1, 1, 0], 0.99, 0.01),
        ([1, 0, 0, 99], 0.99, float("inf")),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(counts: list[int], share: float, value: float | None) -> None:
    assert quantile(BOUNDS, counts, share) == pytest.approx(value)


def test_what_is_counted_since_a_reload_is_recent_though_nothing_was_kept_of_it() -> None:
    clock, known = Clock(), [series()]
    recent = Recent(lambda: known, clock)
    known.append(series())
    known[1].observe(5)
    assert recent.counts(known[1]) == [1, 0, 0, 0]
