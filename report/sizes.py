"""How large a path's messages were, and its latency by the size of the request."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from report.percentiles import nearest_rank, percentile

MAX_CLASSES = 4

Array = npt.NDArray[Any]


class Sizes(NamedTuple):
    """Bytes of a path's messages of one kind."""

    mean: float
    smallest: int
    largest: int


class SizeClass(NamedTuple):
    """Correct responses to requests of so many bytes, both ends included, and their latency.

    p50_ms and p99_ms are of what verdicts are about: response times, in a closed loop service times; None below their
    minimum sample count.
    """

    smallest_bytes: int
    largest_bytes: int
    requests: int
    p50_ms: float | None
    p99_ms: float | None


def sizes(sizes_bytes: Array) -> Sizes | None:
    """Return the sizes of messages in bytes, NaN for what was not recorded; None when nothing was."""
    known = sizes_bytes[np.isfinite(sizes_bytes)]
    if not len(known):
        return None
    return Sizes(round(float(known.mean()), 1), int(known.min()), int(known.max()))


def size_classes(request_bytes: Array, latencies_us: Array) -> tuple[SizeClass, ...]:
    """Return the latency by size class; none where all requests have one size, or sizes were not recorded.

    Up to MAX_CLASSES sizes are a class each. More of them are parted where a quarter, a half and three quarters of the
    requests are reached, equal sizes together.
    """
    known = np.isfinite(request_bytes)
    found, times_us = request_bytes[known], latencies_us[known]
    ends = np.unique(found)
    if len(ends) < 2:  # noqa: PLR2004 - one size has no classes
        return ()
    if len(ends) > MAX_CLASSES:
        ordered = np.sort(found)
        ends = np.unique([nearest_rank(ordered, str(100 * part // MAX_CLASSES)) for part in range(1, MAX_CLASSES + 1)])
    places = np.searchsorted(ends, found)
    return tuple(_class(found[places == place], times_us[places == place]) for place in range(len(ends)))


def _class(request_bytes: Array, times_us: Array) -> SizeClass:
    ordered_us = np.sort(times_us)
    p50_us, p99_us = (percentile(ordered_us, percent) for percent in ("50", "99"))
    p50_ms, p99_ms = (None if value is None else round(value / 1e3, 4) for value in (p50_us, p99_us))
    return SizeClass(int(request_bytes.min()), int(request_bytes.max()), len(times_us), p50_ms, p99_ms)
