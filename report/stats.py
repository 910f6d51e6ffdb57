"""From rows to figures: each measurement's columns are read once, and every number of it is worked out from them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from report.coordinated_omission import Waiting, waiting_caller
from report.percentiles import nearest_rank, percentile, percentile_ms
from report.rows import NO_OP, SIZES, MeasurementName, Rows, name_of
from report.sizes import SizeClass, Sizes, size_classes, sizes
from servepath.results.thresholds import LATE_NS

EMBEDDED = "embedded"
PERCENTILES = {"p50_ms": "50", "p90_ms": "90", "p99_ms": "99", "p999_ms": "99.9"}
# What summary.json does not have of a PathResult.
NOT_IN_JSON = ("identities", "samples", "latencies_us")
# What it has only where it was recorded: older runs do not know how large their messages were, or of proofs.
WHERE_RECORDED = ("request_bytes", "reply_bytes", "size_classes", "proof")

Array = npt.NDArray[Any]


def engine_label(engine: str, version: str) -> str:
    """Return engine and version in words; an embedded stand-in is never called by the product's name."""
    return f"{EMBEDDED} ({version})" if engine == EMBEDDED else f"{engine} {version}"


class Identity(NamedTuple):
    """Who answered, with which artifact."""

    engine: str
    engine_version: str
    version: int
    sha256: str


NOBODY = Identity("", "", 0, "")


class Proof(NamedTuple):
    """What the gateway saw when it asked the path's server for golden rows of the model's reference, before the load.

    difference: the largest from the reference, None where none was seen. refused, unbatched: why requests are refused
    or not batched by that, "" where they are not.
    """

    difference: float | None
    refused: str
    unbatched: str


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


class Samples:
    """The rows of one measurement, round after round, as columns and masks. Nulls of numbers are NaN.

    measured: without the warm-up. right: measured and correct. timed: those whose times count, which are the right
    ones, or not one of them when a measured response was incorrect: such a path has no latency.
    """

    def __init__(self, tables: Mapping[int, pa.Table]) -> None:
        self._table = pa.concat_tables(tables.values()).combine_chunks()
        self.round = np.repeat(list(tables), [table.num_rows for table in tables.values()])
        self.measured = self.column("phase") == "measure"
        self.ok, self.wrong = (self.column(name).astype(bool) for name in ("ok", "wrong"))
        self.right = self.measured & self.ok & ~self.wrong
        self.timed = self.right & ~(self.measured & self.wrong).any()
        self.sent_ns = self.column("sent_ns")
        # Integers: as a float, a time of day has 256 ns at best.
        self.scheduled_ns = self._table["scheduled_ns"].fill_null(-1).to_numpy()
        names = ("service_us", "response_us", "gateway_us", "queue_us", "backend_us")
        self.times_us = {name: self.column(name).astype(float) for name in names}
        self.request_bytes, self.reply_bytes = (self.column(name).astype(float) for name in SIZES)

    def column(self, name: str) -> Array:
        """Return a column."""
        return np.asarray(self._table[name].to_numpy())

    def times(self, name: str) -> Array:
        """Return the times of that name that count, in microseconds, in the order of the rows."""
        values: Array = self.times_us[name][self.timed]
        return values[np.isfinite(values)]

    def by_round(self, name: str) -> dict[int, Array]:
        """Return the same for each round; empty when a measured response was incorrect."""
        numbers = np.unique(self.round) if self.timed.any() else ()
        return {int(number): self.times_us[name][self.timed & (self.round == number)] for number in numbers}


@dataclass(frozen=True, slots=True)
class PathResult:
    """One path reached one way: its measured requests of all counted rounds, warm-up left out.

    identities: everyone who answered, the first of them also in the single fields.
    p50_ms ... p999_ms are service times (reply received - request sent), response_... are response times (reply
    received - scheduled send; None in a closed loop). Both are of right answers only, pooled over the rounds,
    nearest-rank, None below their minimum sample count, and None when one answer was wrong: such a path has no latency.
    gateway_share: of the service time, how much the gateway reported as its own. None where nothing can be said.
    generator_cpu: share of one core that the load's busiest process used, the mean over the rounds.
    request_bytes, reply_bytes: of the measured requests; None where it was not recorded.
    proof: of the path's server; None where the run did not load the path through the gateway, or did not record it.
    latencies_us: what verdicts are about, by round: response times, in a closed loop service times.
    """

    model: str
    stack: str
    via: str
    side: str
    engine: str
    engine_version: str
    version: int
    sha256: str
    load_model: str
    rate_rps: float
    rounds: int
    requests: int
    errors: int
    wrong_answers: int
    throughput_rps: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    response_p50_ms: float | None
    response_p90_ms: float | None
    response_p99_ms: float | None
    response_p999_ms: float | None
    waiting_caller: Waiting | None
    gateway_p50_us: float | None
    gateway_share: float | None
    parts: Parts | None
    lateness: SchedulingDelay | None
    generator_cpu: float | None
    error_codes: Mapping[str, int]
    warmup_requests: int
    warmup_wrong_answers: int
    request_bytes: Sizes | None
    reply_bytes: Sizes | None
    size_classes: tuple[SizeClass, ...]
    proof: Proof | None
    identities: tuple[Identity, ...]
    samples: Samples
    latencies_us: Mapping[int, Array]

    @property
    def name(self) -> MeasurementName:
        """Return its measurement."""
        return MeasurementName(self.model, self.stack, self.via, self.side)

    @property
    def way(self) -> str:
        """Return how the path was reached, and its side, if any."""
        return " ".join(filter(None, (self.via, self.side)))

    @property
    def path(self) -> str:
        """Return MODEL@STACK."""
        return self.name.path

    @property
    def server(self) -> str:
        """Return MODEL@STACK, and its side, if any: what has a colour of its own."""
        return " ".join(filter(None, (self.path, self.side)))

    @property
    def engine_label(self) -> str:
        """Return engine and version, or that there is none."""
        return engine_label(self.engine, self.engine_version) if self.engine else "nobody answered"

    @property
    def label(self) -> str:
        """Return its name in sentences: path, way, engine and version."""
        return f"{self.name} [{self.engine_label}]"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the single latencies and the identities."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in NOT_IN_JSON}
        values |= {"size_classes": [each._asdict() for each in self.size_classes]}
        plain = {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value or name not in WHERE_RECORDED}


def statistics(run: Rows) -> tuple[tuple[PathResult, ...], PathResult | None]:
    """Return a result for each path and way that has a table in a counted round, and the no-op server's or None."""
    rows = {}
    for name in sorted(run.tables):
        tables = {number: run.tables[name][number] for number in run.rounds if number in run.tables[name]}
        if tables:
            rows[name] = _path_result(run, name, Samples(tables), len(tables))
    no_op = rows.pop(NO_OP, None)
    return tuple(rows.values()), no_op


def latencies(rows: Iterable[PathResult], rounds: Sequence[int]) -> dict[str, list[Array]]:
    """Return the latencies by the measurement's key: an array for each round, empty for a missing one."""
    none = np.empty(0)
    return {row.name.key: [row.latencies_us.get(number, none) for number in rounds] for row in rows}


def _path_result(run: Rows, name: MeasurementName, samples: Samples, rounds: int) -> PathResult:
    measured, warmup, who = samples.measured, ~samples.measured, identities(samples)
    judged = "response_us" if run.open_loop else "service_us"
    service_us, response_us, gateway_us = (
        np.sort(samples.times(f"{of}_us")) for of in ("service", "response", "gateway")
    )
    return PathResult(
        **name._asdict(),
        **(who[0] if who else NOBODY)._asdict(),
        load_model=run.facts["load_model"],
        rate_rps=float(run.facts["arguments"]["rate"]),
        rounds=rounds,
        requests=int(measured.sum()),
        errors=int((measured & ~samples.ok).sum()),
        wrong_answers=int((measured & samples.wrong).sum()),
        throughput_rps=throughput_rps(samples),
        **{key: percentile_ms(service_us, percent) for key, percent in PERCENTILES.items()},  # type: ignore[arg-type]
        **{f"response_{key}": percentile_ms(response_us, percent) for key, percent in PERCENTILES.items()},  # type: ignore[arg-type]
        waiting_caller=(
            waiting_caller(samples.sent_ns[samples.timed], samples.times_us["service_us"][samples.timed])
            if run.open_loop
            else None
        ),
        gateway_p50_us=percentile(gateway_us, "50"),
        gateway_share=round(float(gateway_us.sum() / service_us.sum()), 4) if len(gateway_us) else None,
        parts=parts(samples),
        lateness=lateness(samples),
        generator_cpu=_generator_cpu(run, name),
        error_codes=dict(sorted(Counter(samples.column("code")[measured & ~samples.ok].tolist()).items())),
        warmup_requests=int(warmup.sum()),
        warmup_wrong_answers=int((warmup & samples.wrong).sum()),
        request_bytes=sizes(samples.request_bytes[measured]),
        reply_bytes=sizes(samples.reply_bytes[measured]),
        size_classes=size_classes(samples.request_bytes[samples.timed], samples.times_us[judged][samples.timed]),
        proof=_proof(run, name),
        identities=who,
        samples=samples,
        latencies_us=samples.by_round(judged),
    )


def identities(samples: Samples) -> tuple[Identity, ...]:
    """Return the identities that answered measured requests, sorted."""
    answered = samples.measured & samples.ok
    columns = [samples.column(name)[answered].tolist() for name in Identity._fields]
    return tuple(sorted({Identity(*values) for values in zip(*columns, strict=True)}))


def throughput_rps(samples: Samples) -> float:
    """Return correct responses a second, each round from its first request sent to its last reply received."""
    spans_ns = 0.0
    for number in np.unique(samples.round):
        these = samples.measured & (samples.round == number)
        if these.any():
            sent_ns = samples.sent_ns[these]
            spans_ns += (sent_ns + samples.times_us["service_us"][these] * 1e3).max() - sent_ns.min()
    return round(float(samples.right.sum() / (spans_ns / 1e9)), 2) if spans_ns else 0.0


def lateness(samples: Samples) -> SchedulingDelay | None:
    """Return the scheduling delay of measured requests; None in a closed loop, which has no schedule."""
    scheduled = samples.measured & (samples.scheduled_ns >= 0)
    if not scheduled.any():
        return None
    late_ns = np.sort((samples.sent_ns - samples.scheduled_ns)[scheduled])
    p50_us, p99_us = (nearest_rank(late_ns, percent) / 1e3 for percent in ("50", "99"))
    return SchedulingDelay(round(p50_us, 1), round(p99_us, 1), round(float((late_ns > LATE_NS).mean()), 6))


def parts(samples: Samples) -> Parts | None:
    """Return the mean of each part of the service time; the client's has the network in it and what nobody owns."""
    mean_us, gateway_us, queue_us, backend_us = (
        float(values.mean()) if len(values := samples.times(f"{part}_us")) else None
        for part in ("service", "gateway", "queue", "backend")
    )
    if mean_us is None:
        return None
    if gateway_us is None or backend_us is None:
        return Parts(round(mean_us, 1), None, None, None)
    client_us, own_us = mean_us - gateway_us - backend_us, gateway_us - (queue_us or 0)
    queue_us = None if queue_us is None else round(queue_us, 1)
    return Parts(round(client_us, 1), round(own_us, 1), queue_us, round(backend_us, 1))


def _proof(run: Rows, name: MeasurementName) -> Proof | None:
    found = run.facts.get("proofs", {}).get(name._replace(via="gateway").key)
    return None if found is None else Proof(found["difference"], found["refused"], found["unbatched"])


def _generator_cpu(run: Rows, name: MeasurementName) -> float | None:
    shares = [
        measurement["generator_cpu"]
        for measurement in run.facts["measurements"]
        if name_of(measurement) == name and measurement["round"] in run.rounds
    ]
    return round(sum(shares) / len(shares), 4) if shares else None
