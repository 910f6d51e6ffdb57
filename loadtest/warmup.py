"""When a path is warm: a rule to begin by, not a result."""

from collections.abc import Sequence

# The load of a warm-up comes in windows, and ends when the medians of the last STABLE are within STABLE_WITHIN of one
# another: compilers have compiled, caches are filled, connections are open.
WINDOW_S = 0.5
STABLE = 3
STABLE_WITHIN = 1.10


def stable(medians_us: Sequence[float]) -> bool:
    """Return whether the service time is stable; medians_us: of each window so far."""
    last = medians_us[-STABLE:]
    return len(last) == STABLE and max(last) <= STABLE_WITHIN * min(last)
