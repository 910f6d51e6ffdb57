from time import monotonic

import pytest

from services.dataplane.grpcio_listener import ListenerLimits

LIMITS = ListenerLimits(default_deadline_s=15, max_deadline_s=120)


@pytest.mark.parametrize(
    ("remaining_s", "granted_s"), [(None, 15), (9.2e18, 15), (1e6, 120), (120.5, 120), (3, 3), (0, 0), (-1, -1)]
)
def test_a_callers_deadline_is_kept_or_cut_or_given(remaining_s: float | None, granted_s: float) -> None:
    before = monotonic()
    deadline = LIMITS.deadline(remaining_s)
    assert before + granted_s <= deadline <= monotonic() + granted_s
