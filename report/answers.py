"""The rows of one measurement over all counted rounds, as columns and masks."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from report.percentiles import nearest_rank
from servepath.results.thresholds import LATE_NS

Array = npt.NDArray[Any]


class Identity(NamedTuple):
    """Who answered, with which artifact."""

    engine: str
    engine_version: str
    version: int
    sha256: str


class SchedulingDelay(NamedTuple):
    """How long after its scheduled time a request was sent, in microseconds, and the share above one millisecond."""

    p50_us: float
    p99_us: float
    over_1ms_share: float


class Parts(NamedTuple):
    """Where the mean service time went, in microseconds; means, since they add up. None without a gateway.

    queue_us: waiting in the gateway for a place in a call; gateway_us is without it. None in runs that did not record
    it: it is in gateway_us then.
    """

    client_us: float
    gateway_us: float | None
    queue_us: float | None
    backend_us: float | None


class Waiting(NamedTuple):
    """What the p99 would have been to one caller who waits for each reply; high_ms is its upper 99 % bound."""

    p99_ms: float
    high_ms: float


class Answers:
    """A measurement's rows, round after round.

    `measured` leaves the warm-up out, `good` marks measured right answers.
    """

    def __init__(self, tables: Mapping[int, pa.Table]) -> None:
        self._table = pa.concat_tables(tables.values()).combine_chunks()
        self._rounds = np.repeat(list(tables), [table.num_rows for table in tables.values()])
        self.measured = self.column("phase") == "measure"
        self.ok = self.column("ok").astype(bool)
        self.wrong = self.column("wrong").astype(bool)
        self.good = self.measured & self.ok & ~self.wrong

    def column(self, name: str) -> Array:
        """Return a column; nulls of numbers are NaN."""
        return np.asarray(self._table[name].to_numpy())

    def latencies_us(self, column: str) -> Array:
        """Return service_us or response_us of correct responses, in order; empty when one measured is incorrect."""
        values = np.empty(0) if self._lied() else self.column(column)[self.good].astype(float)
        return values[np.isfinite(values)]

    def by_round_us(self, column: str) -> dict[int, Array]:
        """Return the same for each round; an incorrect response in one round empties all."""
        if self._lied():
            return {}
        values = self.column(column).astype(float)
        return {int(number): values[self.good & (self._rounds == number)] for number in np.unique(self._rounds)}

    def one_waiting_caller_us(self) -> Array:
        """Return the service times that one closed-loop caller would have recorded.

        Of the requests in order, each that was sent after the reply to the one taken before: what is left out is what
        a closed loop leaves out (coordinated omission, G. Tene, "How NOT to measure latency", 2013).
        """
        if self._lied():
            return np.empty(0)
        sent_ns, service_us = self.column("sent_ns")[self.good], self.column("service_us")[self.good]
        order, free_ns, taken = np.argsort(sent_ns, kind="stable"), -1.0, []
        for at_ns, took_us in zip(sent_ns[order].tolist(), service_us[order].tolist(), strict=True):
            if at_ns >= free_ns:
                taken.append(took_us)
                free_ns = at_ns + took_us * 1e3
        return np.asarray(taken)

    def throughput_rps(self) -> float:
        """Return correct responses a second, each round from its first request sent to its last reply received."""
        sent_ns, service_us = self.column("sent_ns"), self.column("service_us")
        spans_ns = 0.0
        for number in np.unique(self._rounds):
            these = self.measured & (self._rounds == number)
            if these.any():
                spans_ns += (sent_ns[these] + service_us[these] * 1e3).max() - sent_ns[these].min()
        return round(float(self.good.sum() / (spans_ns / 1e9)), 2) if spans_ns else 0.0

    def lateness(self) -> SchedulingDelay | None:
        """Return the scheduling delay of measured requests; None in a closed loop, which has no schedule."""
        scheduled_ns = self._table["scheduled_ns"]
        here = self.measured & ~np.asarray(scheduled_ns.is_null())
        if not here.any():
            return None
        late_ns = np.sort(self.column("sent_ns")[here] - scheduled_ns.fill_null(0).to_numpy()[here])
        p50_us, p99_us = (nearest_rank(late_ns, percent) / 1e3 for percent in ("50", "99"))
        return SchedulingDelay(round(p50_us, 1), round(p99_us, 1), round(float((late_ns > LATE_NS).mean()), 6))

    def parts(self) -> Parts | None:
        """Return the mean of each part of the service time; the client's has the network in it and what nobody owns."""
        service_us = self.latencies_us("service_us")
        if not len(service_us):
            return None
        mean_us = float(service_us.mean())
        gateway_us, queue_us, backend_us = (self._mean_us(f"{part}_us") for part in ("gateway", "queue", "backend"))
        if gateway_us is None or backend_us is None:
            return Parts(round(mean_us, 1), None, None, None)
        client_us, own_us = mean_us - gateway_us - backend_us, gateway_us - (queue_us or 0)
        queue_us = None if queue_us is None else round(queue_us, 1)
        return Parts(round(client_us, 1), round(own_us, 1), queue_us, round(backend_us, 1))

    def error_codes(self) -> dict[str, int]:
        """Return how often each code ended a measured request."""
        return dict(sorted(Counter(self.column("code")[self.measured & ~self.ok].tolist()).items()))

    def identities(self) -> tuple[Identity, ...]:
        """Return the identities that answered measured requests, sorted."""
        answered = self.measured & self.ok
        columns = [self.column(name)[answered].tolist() for name in Identity._fields]
        return tuple(sorted({Identity(*values) for values in zip(*columns, strict=True)}))

    def _mean_us(self, column: str) -> float | None:
        values = self.latencies_us(column)
        return float(values.mean()) if len(values) else None

    def _lied(self) -> bool:
        return bool((self.measured & self.wrong).any())
