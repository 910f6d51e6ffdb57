import pytest

from loadtest.warmup import stable


@pytest.mark.parametrize(
    ("medians_us", "expected"),
    [
        ([], False),
        ([100.0, 100.0], False),
        ([100.0, 100.0, 100.0], True),
        ([100.0, 105.0, 110.0], True),
        ([100.0, 105.0, 110.1], False),
        ([900.0, 500.0, 300.0, 301.0, 302.0], True),
        ([300.0, 301.0, 302.0, 500.0], False),
    ],
)
def test_a_path_is_warm_when_three_windows_in_a_row_are_within_a_tenth(
    medians_us: list[float],
    expected: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    assert stable(medians_us) is expected
