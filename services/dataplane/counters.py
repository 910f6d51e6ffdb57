"""Counters and histograms for the event loop: plain numbers, turned into Prometheus metrics when they are asked for.

prometheus_client's own take a lock at every step, 2-3 us a call, which was a sixth of what a request cost. These are
written by one thread only; the exposition's thread reads them, each number whole.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


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

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add a value; one that equals a bound is within it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


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


class Histogram(Collector):
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
        self._children: dict[tuple[str, ...], HistogramSeries] = {}
        registry.register(self)

    def labels(self, *values: str) -> HistogramSeries:
        """Return the histogram of these labels."""
        return self._children.setdefault(values, HistogramSeries(self._bounds))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family as it is now."""
        family = HistogramMetricFamily(*self._family, labels=self._names)
        bounds = [floatToGoString(bound) for bound in (*self._bounds, float("inf"))]  # type: ignore[no-untyped-call]
        for values, spread in list(self._children.items()):
            counts = accumulate(list(spread.counts))
            family.add_metric(values, buckets=list(zip(bounds, counts, strict=True)), sum_value=spread.total)
        yield family
