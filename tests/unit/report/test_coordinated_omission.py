import numpy as np
import pytest

from report.coordinated_omission import one_waiting_caller_us, waiting_caller


@pytest.mark.parametrize(("stop_ms", "open_loop_ms", "waiting_ms"), [(200, 100, 1), (0, 1, 1)])
def test_a_stop_shows_in_the_open_loops_p99_and_not_to_one_waiting_caller(
    stop_ms: int, open_loop_ms: int, waiting_ms: int
) -> None:
    """500 requests a second for 10 s, each answered in 1 ms; in the third second the service stands still."""
    due_ms = np.arange(0, 10_000, 2)
    waits_ms = np.where((due_ms >= 3000) & (due_ms < 3000 + stop_ms), 3000 + stop_ms - due_ms, 0)
    sent_ns, service_us = due_ms * 10**6, (1 + waits_ms) * 1e3
    seen_us = one_waiting_caller_us(sent_ns, service_us)
    p99_ms = [np.percentile(found, 99, method="inverted_cdf") / 1e3 for found in (service_us, seen_us)]
    assert p99_ms == pytest.approx([open_loop_ms, waiting_ms], rel=0.05)
    assert len(seen_us) == 5000 - stop_ms // 2


def test_without_requests_a_waiting_caller_sees_nothing() -> None:
    assert one_waiting_caller_us(np.empty(0), np.empty(0)).size == 0
    assert waiting_caller(np.empty(0), np.empty(0)) is None
