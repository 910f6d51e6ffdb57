"""Computing: what is void, the ratio of a round, and the middle and spread of the rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from scipy import special

from studies.peers.h2load import Counted
from studies.peers.rows import RequiredMeasurement, Row

Codes = Mapping[str, int]
CONFIDENCE = 0.95
# Cores; above it a machine is not ours alone, and a comparison with a threshold means nothing.
MAX_OTHERS = 0.15


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement.

    rate: requests/s. Times are in microseconds; p50_us where each was logged, cpu_us of the server's CPU per request.
    others: cores that processes of others kept busy meanwhile. void: why it does not count, "" when it does.
    """

    rate: float = 0.0
    mean_us: float = 0.0
    p50_us: float | None = None
    cpu_us: float = 0.0
    requests: int = 0
    others: float = 0.0
    void: str = ""


class MedianInterval(NamedTuple):
    """The middle of some ratios and an interval for it; confidence: that the true median is in it."""

    low: float
    middle: float
    high: float
    confidence: float


class Figure(NamedTuple):
    """How a figure is read from a measurement, and whether more of it is better."""

    of: Callable[[Measured], float | None]
    more_is_better: bool
    text: str
    unit: str


FIGURES = MappingProxyType(
    {
        "rate": Figure(lambda measured: measured.rate, more_is_better=True, text="requests/s", unit="/s"),
        "p50": Figure(lambda measured: measured.p50_us, more_is_better=False, text="p50", unit=" us"),
        "mean": Figure(lambda measured: measured.mean_us, more_is_better=False, text="mean latency", unit=" us"),
        "cpu": Figure(lambda measured: measured.cpu_us, more_is_better=False, text="CPU per request", unit=" us"),
    },
)


def why_void(sent: int, counted: Counted, sizes: tuple[int, int], codes: Codes | None) -> str:
    """Return why a measurement does not count, or "".

    sent: requests asked for. sizes: bytes that a right reply has, least and most. codes: how often the server says to
    have ended a call, by gRPC code, while it was measured; None for a server that does not say.
    """
    if not counted.total == counted.succeeded == sent:
        return f"{counted.succeeded} of {sent} requests succeeded"
    least, most = (size * sent for size in sizes)
    if not least <= counted.data_bytes <= most:
        return f"{counted.data_bytes} bytes of replies, {least} to {most} were right: some replies were errors"
    return "" if codes is None else _why_unlike(sent, codes)


def _why_unlike(sent: int, codes: Codes) -> str:
    refused = {code: count for code, count in codes.items() if count and code != "OK"}
    if refused:
        return f"the server refused calls: {refused}"
    if codes.get("OK", 0) < sent:
        return f"the server counted {codes.get('OK', 0)} answered calls of {sent}"
    return ""


def ratio(row: Row, round_: Mapping[RequiredMeasurement, Measured]) -> float:
    """Return ours divided by the peer's in one round, both less the base where the row has one. Raises ValueError."""
    values = [_value(row, round_[need]) for need in row.needs]
    base = values[2] if row.base else 0.0
    ours, peer = values[0] - base, values[1] - base
    if peer <= 0:
        raise ValueError(f"{row.peer} took no more than {row.base or 'nothing'}: the ratio is undefined")
    return ours / peer


def _value(row: Row, measured: Measured) -> float:
    if measured.void:
        raise ValueError(measured.void)
    value = FIGURES[row.figure].of(measured)
    if value is None:
        raise ValueError(f"{row.figure} was not measured")
    return value


def spread(ratios: Sequence[float]) -> MedianInterval:
    """Return the median and the narrowest pair of order statistics that holds the true one with 95 %, or the extremes.

    It needs no assumption but that rounds are alike: each falls below the true median with one half.
    """
    ordered = sorted(ratios)
    count = len(ordered)
    skip = max((k for k in range((count + 1) // 2) if confidence(count, k) >= CONFIDENCE), default=0)
    return MedianInterval(ordered[skip], median(ordered), ordered[count - 1 - skip], confidence(count, skip))


def confidence(count: int, skip: int) -> float:
    """Return the probability that the true median is inside when `skip` of `count` values are left out at each end."""
    return 1 - 2 * float(special.bdtr(skip, count, 0.5))


def verdict(row: Row, middle: float) -> str:
    """Return how a row's median compares with threshold and target; "" where neither was set."""
    if row.threshold is None:
        return ""
    better = FIGURES[row.figure].more_is_better
    reached = [
        aim for aim in (row.target, row.threshold) if aim is not None and (middle >= aim if better else middle <= aim)
    ]
    if not reached:
        return "below threshold"
    return "target" if row.target in reached else "threshold"
