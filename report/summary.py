"""One run as numbers: what every renderer shows and summary.json holds."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from report.percentiles import percentile
from report.rows import BlockName, Rows

EMBEDDED = "embedded"
Array = npt.NDArray[Any]


class Identity(NamedTuple):
    """Who answered, with which artefact."""

    engine: str
    engine_version: str
    version: int
    sha256: str


NOBODY = Identity("", "", 0, "")


@dataclass(frozen=True, slots=True)
class Row:
    """One path reached one way: its measured requests, warm-up left out.

    identities: everyone who answered, the first of them also in the single fields.
    service_ms: reply received - request sent, ascending, of right answers only; empty when one answer was wrong, since
    a path with wrong answers has no latency. Percentiles are nearest-rank, None below their floor of samples.
    gateway_share: of the service time, how much the gateway reported as its own. None where nothing can be said.
    """

    model: str
    stack: str
    via: str
    engine: str
    engine_version: str
    version: int
    sha256: str
    rate_rps: float
    requests: int
    errors: int
    wrong_answers: int
    throughput_rps: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    gateway_p50_us: float | None
    gateway_share: float | None
    error_codes: Mapping[str, int]
    warmup_requests: int
    warmup_wrong_answers: int
    identities: tuple[Identity, ...]
    service_ms: Array

    @property
    def name(self) -> BlockName:
        """Give the row's block."""
        return BlockName(self.model, self.stack, self.via)

    @property
    def path(self) -> str:
        """Give MODEL@STACK."""
        return f"{self.model}@{self.stack}"

    @property
    def engine_label(self) -> str:
        """Give engine and version; an embedded stand-in is never called by the product's name."""
        if self.engine == EMBEDDED:
            return f"{EMBEDDED} ({self.engine_version})"
        return f"{self.engine} {self.engine_version}" if self.engine else "nobody answered"

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form, without the single latencies and the identities."""
        left_out = ("service_ms", "identities")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's facts, its rows in the order of their names, and what stands against it; no reason means valid."""

    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Say whether the numbers may be used."""
        return not self.reasons


def summarise(rows: Rows) -> tuple[Row, ...]:
    """Give one Row for each block that has a table."""
    rate = float(rows.facts["arguments"]["rate"])
    return tuple(_row(name, rows.tables[name], rate) for name in sorted(rows.tables))


def _row(name: BlockName, table: pa.Table, rate: float) -> Row:
    answers = Answers(table)
    identities = answers.identities()
    who = identities[0] if identities else NOBODY
    wrong, service_ms = int((answers.measured & answers.wrong).sum()), answers.service_ms()
    return Row(
        model=name.model,
        stack=name.stack,
        via=name.via,
        engine=who.engine,
        engine_version=who.engine_version,
        version=who.version,
        sha256=who.sha256,
        rate_rps=rate,
        requests=int(answers.measured.sum()),
        errors=int((answers.measured & ~answers.ok).sum()),
        wrong_answers=wrong,
        throughput_rps=answers.throughput_rps(),
        p50_ms=_rounded(percentile(service_ms, "50")),
        p90_ms=_rounded(percentile(service_ms, "90")),
        p99_ms=_rounded(percentile(service_ms, "99")),
        p999_ms=_rounded(percentile(service_ms, "99.9")),
        gateway_p50_us=_rounded(percentile(answers.gateway_us(), "50")),
        gateway_share=answers.gateway_share(),
        error_codes=answers.error_codes(),
        warmup_requests=int((~answers.measured).sum()),
        warmup_wrong_answers=int((~answers.measured & answers.wrong).sum()),
        identities=identities,
        service_ms=service_ms,
    )


class Answers:
    """A block's table as masks and columns; `good` marks the measured right answers."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.measured = self._column("phase", str) == "measure"
        self.ok = self._column("ok", bool)
        self.wrong = self._column("wrong", bool)
        self.good = self.measured & self.ok & ~self.wrong

    def service_ms(self) -> Array:
        """Give the latencies of right answers, ascending; none when a measured answer was wrong."""
        if (self.measured & self.wrong).any():
            return np.empty(0)
        return np.sort(self._column("service_us", float)[self.good]) / 1e3

    def throughput_rps(self) -> float:
        """Give right answers a second, from the first request sent to the last reply received."""
        if not self.good.any():
            return 0.0
        sent_ns = self._column("sent_ns", int)[self.measured]
        received_ns = sent_ns + self._column("service_us", float)[self.measured] * 1e3
        return round(float(self.good.sum() / ((received_ns.max() - sent_ns.min()) / 1e9)), 2)

    def gateway_us(self) -> Array:
        """Give what the gateway reported as its own time, ascending; empty where there was none on the way."""
        if self._table["gateway_us"].null_count == self._table.num_rows:
            return np.empty(0)
        return np.sort(self._column("gateway_us", float)[self.good])

    def gateway_share(self) -> float | None:
        """Give the gateway's own part of the service time, over all right answers."""
        gateway_us = self.gateway_us()
        if not len(gateway_us):
            return None
        return round(float(gateway_us.sum() / self._column("service_us", float)[self.good].sum()), 4)

    def error_codes(self) -> dict[str, int]:
        """Give how often each code ended a measured request."""
        return dict(sorted(Counter(self._column("code", str)[self.measured & ~self.ok].tolist()).items()))

    def identities(self) -> tuple[Identity, ...]:
        """Give everyone who answered a measured request, sorted."""
        answered = self.measured & self.ok
        kinds = {"engine": str, "engine_version": str, "version": int, "sha256": str}
        columns = [self._column(name, kind)[answered].tolist() for name, kind in kinds.items()]
        return tuple(sorted({Identity(*values) for values in zip(*columns, strict=True)}))

    def _column(self, name: str, kind: type) -> Array:
        return np.asarray(self._table[name].to_pylist(), dtype=kind)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def compare(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Give p50 through the gateway less p50 direct, in ms, for each path that has both. It describes, no verdict."""
    p50_ms = {row.name: row.p50_ms for row in rows}
    found = []
    for row in rows:
        direct_ms = p50_ms.get(row.name._replace(via="direct"))
        if row.via == "gateway" and row.p50_ms is not None and direct_ms is not None:
            difference_ms = round(row.p50_ms - direct_ms, 4)
            found.append({"model": row.model, "stack": row.stack, "gateway_less_direct_p50_ms": difference_ms})
    return found


def to_dict(summary: Summary) -> dict[str, Any]:
    """Give the content of summary.json."""
    facts = summary.facts
    return {
        "valid": summary.valid,
        "reasons": list(summary.reasons),
        "run": facts["run"],
        "started": facts["started"],
        "git_commit": facts["git_commit"],
        "host": facts["host"],
        "load_model": facts["load_model"],
        "seed": facts["seed"],
        "arguments": facts["arguments"],
        "percentiles": "nearest rank of the service times of right answers, warm-up excluded",
        "paths": [row.to_dict() for row in summary.rows],
        "comparison": compare(summary.rows),
        "verdicts": [],
    }
