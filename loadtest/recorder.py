"""One row per request: kept in memory while a block runs, written whole when it ends."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from loadtest.plan import Block
from store import atomic

WARMUP, MEASURE = "warmup", "measure"
# sent_ns: nanoseconds since 1970, from a clock that only goes forward within a run. service_us: reply received - sent.
# scheduled_ns: when an open-loop schedule wanted it sent; null here, where closed-loop users wait for their replies.
SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("path", pa.string()),
        ("model", pa.string()),
        ("stack", pa.string()),
        ("via", pa.string()),
        ("phase", pa.string()),
        ("sent_ns", pa.int64()),
        ("scheduled_ns", pa.int64()),
        ("service_us", pa.float64()),
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
    ],
)


class Sample(NamedTuple):
    """One request and what came of it.

    ok: a readable reply came. code: its gRPC code, or the reason of a reply that was none. wrong: the reply is not the
    expected answer, or not from the path that was asked. The fields after `rows` say who answered, empty or 0 if nobody
    did; gateway_us and backend_us are None where no gateway was on the way.
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


class Recorder:
    """The samples of one block. What was sent before `measure_from_ns` is warm-up."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.measure_from_ns: int | None = None
        self.samples: list[Sample] = []

    def phase(self, sample: Sample) -> str:
        """Say whether a sample is warm-up or measured."""
        return WARMUP if self.measure_from_ns is None or sample.sent_ns < self.measure_from_ns else MEASURE

    def measured(self) -> list[Sample]:
        """Give the samples after the warm-up."""
        return [sample for sample in self.samples if self.phase(sample) == MEASURE]

    def table(self, run: str) -> pa.Table:
        """Give the samples as a table of SCHEMA, in the order in which their replies came."""
        path = self.block.path
        count = len(self.samples)
        constant = {"run": run, "path": str(path), "model": path.model, "stack": path.stack, "via": self.block.via}
        columns: dict[str, Iterable[object]] = {name: [value] * count for name, value in constant.items()}
        columns["phase"] = [self.phase(sample) for sample in self.samples]
        columns["scheduled_ns"] = [None] * count
        for position, name in enumerate(Sample._fields):
            columns[name] = [sample[position] for sample in self.samples]
        return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)

    def write(self, run_folder: Path) -> Path:
        """Write the rows to RUN_FOLDER/rows/BLOCK.parquet, whole or not at all, and give the file's path."""
        path = run_folder / "rows" / f"{self.block}.parquet"
        buffer = io.BytesIO()
        parquet.write_table(self.table(run_folder.name), buffer)
        atomic.write_file(path, buffer.getvalue())
        return path
