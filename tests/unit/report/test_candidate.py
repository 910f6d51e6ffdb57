"""What is worked out of a candidate's own figures."""

import pytest

from report.candidate import Trial, interpolated_p99
from report.estimates import Estimate

TRIALS = (Trial(100, 1.0), Trial(400, 4.0), Trial(400, 6.0))


@pytest.mark.parametrize(
    ("rate_rps", "p99_ms"),
    [
        (100, Estimate(1.0, 1.0, 1.0)),
        (400, Estimate(5.0, 4.0, 6.0)),
        (200, Estimate(pytest.approx(5**0.5), 1.0, 6.0)),
        (50, Estimate(1.0, None, 1.0)),
        (401, None),
    ],
)
def test_a_p99_between_trials_has_their_range_and_one_beyond_them_is_not_known(
    rate_rps: float, p99_ms: Estimate | None
) -> None:
    assert interpolated_p99(TRIALS, rate_rps) == p99_ms
