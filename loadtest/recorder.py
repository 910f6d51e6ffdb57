"""One row per request: kept in memory while a measurement runs, written whole when it ends.

A measurement that several workers loaded has one file, too: each gives its rows, and they are merged by time.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from loadtest.plan import Turn
from servepath.artifacts import atomic

WARMUP, MEASURE = "warmup", "measure"
# sent_ns: nanoseconds since 1970, from a clock that only goes forward within a run. service_us: reply received - sent.
# scheduled_ns: when an open-loop schedule wanted it sent, by the same clock; response_us: reply received - scheduled.
# Both are null in a closed loop, where callers wait for their replies. round: from 0. phase: by scheduled_ns or, where
# there is none, by sent_ns. side: empty, or which of several servers of the path. request_bytes, reply_bytes: of the
# messages; null where none was sent or came. The file of a measurement is rows/rROUND-MODEL@STACK.VIA.parquet, or
# ...VIA~SIDE.parquet.
SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("round", pa.int32()),
        ("path", pa.string()),
        ("model", pa.string()),
        ("stack", pa.string()),
        ("via", pa.string()),
        ("side", pa.string()),
        ("phase", pa.string()),
        ("sent_ns", pa.int64()),
        ("scheduled_ns", pa.int64()),
        ("service_us", pa.float64()),
        ("response_us", pa.float64()),
        ("ok", pa.bool_()),
        ("code", pa.string()),
        ("wrong", pa.bool_()),
        ("rows", pa.int32()),
        ("version", pa.int64()),
        ("sha256", pa.string()),
        ("engine", pa.string()),
        ("engine_version", pa.string()),
        ("gateway_us", pa.int64()),
        ("backend_us", pa.int64()),
        ("queue_us", pa.int64()),
        ("request_bytes", pa.int32()),
        ("reply_bytes", pa.int32()),
    ],
)


class Sample(NamedTuple):
    """One request and what came of it.

    ok: a readable reply came. code: its gRPC code, or the reason of a reply that was none. wrong: the reply is not the
    expected answer, or not from the path that was asked. The fields after `rows` say who answered, empty or 0 if nobody
    did; gateway_us, backend_us and queue_us (a part of gateway_us) are None where no gateway was on the way. Sizes of
    messages are None where none was sent or came. precision: what was computed in, "" where nobody said; no column.
    """

    sent_ns: int
    service_us: float
    ok: bool
    code: str
    wrong: bool
    rows: int
    version: int = 0
    sha256: str = ""
    engine: str = ""
    engine_version: str = ""
    gateway_us: int | None = None
    backend_us: int | None = None
    queue_us: int | None = None
    scheduled_ns: int | None = None
    response_us: float | None = None
    request_bytes: int | None = None
    reply_bytes: int | None = None
    precision: str = ""

    def scheduled(self, due_ns: int) -> "Sample":
        """Return the sample of a request that an open-loop schedule wanted sent at `due_ns`."""
        late_us = (self.sent_ns - due_ns) / 1e3
        return self._replace(scheduled_ns=due_ns, response_us=late_us + self.service_us)


class Recorder:
    """The samples of one worker in one measurement. What was due before `measure_from_ns` is warm-up."""

    def __init__(self, turn: Turn, measure_from_ns: int | None = None) -> None:
        self.turn = turn
        self.measure_from_ns = measure_from_ns
        self.samples: list[Sample] = []

    def phase(self, sample: Sample) -> str:
        """Return whether a sample is warm-up or measured."""
        due_ns = sample.sent_ns if sample.scheduled_ns is None else sample.scheduled_ns
        return WARMUP if self.measure_from_ns is None or due_ns < self.measure_from_ns else MEASURE

    def table(self, run: str) -> pa.Table:
        """Return the samples as a table of SCHEMA, in the order in which their replies came."""
        (path, via, side), count = self.turn.measurement, len(self.samples)
        constant = {"run": run, "round": self.turn.round, "path": str(path), "model": path.model, "stack": path.stack}
        columns: dict[str, Iterable[object]] = {name: [value] * count for name, value in constant.items()}
        columns |= {"via": [via] * count, "side": [side] * count}
        columns["phase"] = [self.phase(sample) for sample in self.samples]
        for position, name in enumerate(Sample._fields):
            columns[name] = [sample[position] for sample in self.samples]
        return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def merge(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all workers in the order in which they were sent."""
    return pa.concat_tables(tables).sort_by("sent_ns")


def write(table: pa.Table, run_folder: Path, turn: Turn) -> Path:
    """Write a measurement's rows to RUN_FOLDER/rows/TURN.parquet, whole or not at all, and return the file's path."""
    return write_file(table, run_folder / "rows" / f"{turn}.parquet")


def write_file(table: pa.Table, path: Path) -> Path:
    """Write rows to a file, whole or not at all, and return its path."""
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    atomic.write_file(path, buffer.getvalue())
    return path
