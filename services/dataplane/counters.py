"""Counters and histograms for the event loop: plain numbers, turned into Prometheus metrics when they are asked for.

prometheus_client's own take a lock at every step, 2-3 us per call, which was a sixth of what a request cost. These are
written by one thread only; the exposition's thread reads them, each number whole.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from time import time
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Microseconds below which a duration's bucket is looked up in a table, a third faster than searched.
SHORT_US = 4096


class CounterSeries:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Add to it."""
        self.value += amount


class HistogramSeries:
    """How often values fell between bounds, and their sum."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: Mapping[int, Exemplar] = {}
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add a value; one that equals a bound is within it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def sum(self) -> float:
        """Return the sum of the values."""
        return self.total


class DurationSeries:
    """How often durations fell between bounds, and their sum; whole microseconds, by which counting costs 0.2 us.

    exemplars: of the buckets that have one, the last duration and what is known of it.
    """

    __slots__ = ("_bounds_us", "_short", "counts", "exemplars", "total_us")

    def __init__(self, bounds_us: Sequence[int], short: bytes) -> None:
        """`short`: the bucket of each duration below SHORT_US."""
        self._bounds_us = bounds_us
        self._short = short
        self.counts = [0] * (len(bounds_us) + 1)
        self.exemplars: dict[int, Exemplar] = {}
        self.total_us = 0

    def observe(self, us: int) -> None:
        """Add a duration; one that equals a bound is within it."""
        self.counts[self._short[us] if 0 <= us < SHORT_US else bisect_left(self._bounds_us, us)] += 1
        self.total_us += us

    def exemplify(self, us: int, known: dict[str, str]) -> None:
        """Keep a duration that was added as its bucket's exemplar."""
        self.exemplars[bisect_left(self._bounds_us, us)] = Exemplar(known, us / 1e6, time())

    def sum(self) -> float:
        """Return the sum in seconds."""
        return self.total_us / 1e6


class Counter(Collector):
    """A family of counts, by labels; NAME_total at /metrics."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._family = (name, documentation)
        self._names = labels
        self._children: dict[tuple[str, ...], CounterSeries] = {}
        registry.register(self)

    def labels(self, *values: str) -> CounterSeries:
        """Return the counter of these labels."""
        return self._children.setdefault(values, CounterSeries())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the family as it is now."""
        family = CounterMetricFamily(*self._family, labels=self._names)
        for values, count in list(self._children.items()):
            family.add_metric(values, count.value)
        yield family


Series = TypeVar("Series", HistogramSeries, DurationSeries)


class _Spreads(Collector, Generic[Series]):
    """A family of spreads, by labels; `buckets` are upper bounds in the unit of the name."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._family = (name, documentation)
        self._names = labels
        self._bounds = tuple(buckets)
        self._children: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    @abstractmethod
    def _series(self) -> Series:
        """Return a series in which nothing is counted."""

    def labels(self, *values: str) -> Series:
        """Return the histogram of these labels."""
        return self._children.setdefault(values, self._series())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family as it is now."""
        family = HistogramMetricFamily(*self._family, labels=self._names)
        bounds = [floatToGoString(bound) for bound in (*self._bounds, float("inf"))]  # type: ignore[no-untyped-call]
        for values, spread in list(self._children.items()):
            counts = accumulate(list(spread.counts))
            buckets = [
                (bound, count, spread.exemplars.get(place))
                for place, (bound, count) in enumerate(zip(bounds, counts, strict=True))
            ]
            family.add_metric(values, buckets=buckets, sum_value=spread.sum())  # type: ignore[arg-type]  # takes None
        yield family


class Histogram(_Spreads[HistogramSeries]):
    """A family of spreads of numbers."""

    def _series(self) -> HistogramSeries:
        return HistogramSeries(self._bounds)


class Durations(_Spreads[DurationSeries]):
    """A family of spreads of durations: counted in whole microseconds, shown in seconds, as its buckets are."""

    def _series(self) -> DurationSeries:
        bounds_us = tuple(round(bound * 1e6) for bound in self._bounds)
        return DurationSeries(bounds_us, _short(bounds_us))


@cache
def _short(bounds_us: tuple[int, ...]) -> bytes:
    return bytes(bisect_left(bounds_us, us) for us in range(SHORT_US))
