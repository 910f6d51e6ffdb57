import math

import pytest

from report.percentiles import minimum_samples, nearest_rank, percentile, rank_of


@pytest.mark.parametrize(("percent", "expected"), [("90", 64), ("99", 662), ("99.9", 6636), ("99.99", 66381)])
def test_floors_are_those_of_mlperf_early_stopping(percent: str, expected: int) -> None:
    assert minimum_samples(percent) == expected


@pytest.mark.parametrize(
    ("percent", "count", "rank"), [("50", 10, 5), ("50", 11, 6), ("90", 10, 9), ("99", 1000, 990), ("99.9", 1000, 999)]
)
def test_a_percentile_is_the_sample_at_the_rounded_up_rank(percent: str, count: int, rank: int) -> None:
    assert nearest_rank(list(range(1, count + 1)), percent) == rank


@pytest.mark.parametrize(("percent", "ten_thousandths"), [("50", 5000), ("90", 9000), ("99", 9900), ("99.9", 9990)])
def test_a_rank_is_what_whole_numbers_give_at_every_count(percent: str, ten_thousandths: int) -> None:
    counts = range(1, 20_001)
    assert [rank_of(percent, count) for count in counts] == [-(-ten_thousandths * count // 10_000) for count in counts]


def test_a_percentile_is_a_latency_that_was_observed() -> None:
    assert nearest_rank([1.0, 100.0], "50") == 1.0


def test_below_its_floor_a_percentile_is_not_given() -> None:
    assert percentile([1.0] * 661, "99") is None
    assert percentile([1.0] * 662, "99") == 1.0
    assert percentile([], "50") is None


def test_one_sample_above_the_floor_percentile_by_chance_is_rarer_than_one_in_a_hundred() -> None:
    def chance(count: int) -> float:
        return sum(math.comb(count, above) * 0.01**above * 0.99 ** (count - above) for above in (0, 1))

    assert chance(662) <= 0.01 < chance(661)
