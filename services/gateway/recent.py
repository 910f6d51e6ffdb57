"""What histograms counted in the last minute: their counts are kept every few seconds, no more than a minute holds."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from time import monotonic

from services.dataplane.counters import DurationSeries

INTERVAL_S = 5.0
KEPT = 13  # the oldest is between 60 and 65 s old


class Recent:
    """Keeps what was counted; read from any thread."""

    def __init__(
        self, series: Callable[[], Collection[DurationSeries]], clock: Callable[[], float] = monotonic
    ) -> None:
        """`series`: gives those that there are, which may become more."""
        self._series = series
        self._clock = clock
        self._kept: deque[tuple[float, dict[DurationSeries, list[int]]]] = deque(maxlen=KEPT)
        self._timer: asyncio.TimerHandle | None = None
        self.keep()

    def start(self) -> None:
        """Keep the counts from now on, every INTERVAL_S."""
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._tick)

    def stop(self) -> None:
        """Keep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def keep(self) -> None:
        """Keep the counts of this moment."""
        self._kept.append((self._clock(), {series: list(series.counts) for series in self._series()}))

    def since(self) -> float:
        """Return how many seconds ago the counting began."""
        return self._clock() - self._kept[0][0]

    def counts(self, series: DurationSeries) -> list[int]:
        """Return what a series counted since then, by bucket."""
        before = self._kept[0][1].get(series) or [0] * len(series.counts)
        return [now - then for now, then in zip(list(series.counts), before, strict=True)]

    def _tick(self) -> None:
        self.keep()
        self.start()


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return the value below which a share of those counted is, as if each bucket were filled evenly.

    None where nothing was counted; infinity where it is above the last bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    lower = 0.0
    for bound, count, reached in zip((*bounds, float("inf")), counts, accumulate(counts), strict=True):
        if count and reached >= rank:
            return bound if bound == float("inf") else lower + (bound - lower) * (1 - (reached - rank) / count)
        lower = bound
    raise AssertionError("fewer were counted than there are")  # pragma: no cover - the last bucket reaches every rank
