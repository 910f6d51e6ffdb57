"""The fuzz's account fails where something is wrong: each threshold has been seen to fail."""

from collections import Counter

import pytest

from tests.fuzz.merge_fuzz import Echo, account

GOOD = Counter(calls=1000, answered=700, poison=100, expired=100, cancelled=100)


def echo(merged_calls: int = 10, sent_merged: int = 80, doubled: int = 0) -> Echo:
    made = Echo()
    made.merged_calls, made.sent_merged, made.doubled = merged_calls, sent_merged, doubled
    return made


def test_a_run_without_a_fault_passes() -> None:
    assert account(echo(), GOOD)
    assert account(echo(), GOOD + Counter(closed=64, calls=64))


@pytest.mark.parametrize(
    ("more", "less"),
    [
        (Counter(mixed=1), Counter(answered=1)),
        (Counter(lost=1), Counter(answered=1)),
        ({"refused INTERNAL": 1}, Counter(answered=1)),
        (Counter(closed=65), Counter(answered=65)),
        (Counter(answered=60), Counter(poison=60)),
        (Counter(answered=60), Counter(expired=60)),
        (Counter(answered=60), Counter(cancelled=60)),
    ],
)
def test_a_call_that_ended_wrongly_or_too_little_disturbance_fails(more: Counter[str], less: Counter[str]) -> None:
    assert not account(echo(), GOOD + Counter(more) - less)


def test_rows_answered_twice_and_small_merged_calls_fail() -> None:
    assert not account(echo(doubled=1), GOOD)
    assert not account(echo(sent_merged=79), GOOD)
