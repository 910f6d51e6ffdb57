"""What a closed loop would have seen of the same requests: coordinated omission, worked out from an open loop's rows.

G. Tene, "How NOT to measure latency", 2013.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from report.percentiles import percentile_ms

Array = npt.NDArray[Any]


class Waiting(NamedTuple):
    """What the p99 would have been to one caller who waits for each reply; high_ms is its upper 99 % bound."""

    p99_ms: float
    high_ms: float


def one_waiting_caller_us(sent_ns: Array, service_us: Array) -> Array:
    """Return the service times that one closed-loop caller would have recorded.

    Of the requests in order, each that was sent after the reply to the one taken before: what is left out is what
    a closed loop leaves out.
    """
    order, free_ns, taken = np.argsort(sent_ns, kind="stable"), -1.0, []
    for at_ns, took_us in zip(sent_ns[order].tolist(), service_us[order].tolist(), strict=True):
        if at_ns >= free_ns:
            taken.append(took_us)
            free_ns = at_ns + took_us * 1e3
    return np.asarray(taken, dtype=float)


def waiting_caller(sent_ns: Array, service_us: Array) -> Waiting | None:
    """Return the p99 to one waiting caller, None where it recorded too few requests."""
    ordered_us = np.sort(one_waiting_caller_us(sent_ns, service_us))
    p99_ms = percentile_ms(ordered_us, "99")
    if p99_ms is None:
        return None
    # The true p99 is above this rank in 1 % of cases: 2.33 standard deviations of how many samples are below it.
    count = len(ordered_us)
    high = math.ceil(0.99 * count + 2.33 * math.sqrt(0.99 * 0.01 * count))
    return Waiting(p99_ms, round(float(ordered_us[min(high, count) - 1]) / 1e3, 4))
