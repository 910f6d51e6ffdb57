"""One row per request, of whichever instrument: what it says of the request, and nothing that it does not say."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from loadtest.plan import Turn
from loadtest.recorder import MEASURE, WARMUP
from servepath.artifacts import atomic

# scheduled_ns, sent_ns: nanoseconds since 1970. service_us: reply received - sent. response_us: reply received -
# scheduled; h2load has no schedule of its own. wrong: null where answers are not looked at, as by h2load. The file of a
# measurement is rows/rROUND-MODEL@STACK.VIA-INSTRUMENT.parquet.
SCHEMA = pa.schema(
    [
        ("phase", pa.string()),
        ("scheduled_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("service_us", pa.float64()),
        ("response_us", pa.float64()),
        ("ok", pa.bool_()),
        ("wrong", pa.bool_()),
    ],
)


class Seen(NamedTuple):
    """One request as an instrument saw it; the fields are SCHEMA's."""

    scheduled_ns: int | None
    sent_ns: int
    service_us: float
    response_us: float | None
    ok: bool
    wrong: bool | None


def table(seen: Sequence[Seen], ramp_up: int) -> pa.Table:
    """Return requests in the order in which they were due as a table of SCHEMA; the first `ramp_up` are the warm-up."""
    ordered = sorted(seen, key=lambda one: one.sent_ns if one.scheduled_ns is None else one.scheduled_ns)
    columns: dict[str, list[Any]] = {name: [getattr(one, name) for one in ordered] for name in SCHEMA.names[1:]}
    phases = [WARMUP if position < ramp_up else MEASURE for position in range(len(ordered))]
    return pa.table({"phase": phases, **columns}, schema=SCHEMA)


def worth_another_try(rows: pa.Table) -> bool:
    """Return whether requests failed and no answer was wrong: a wrong one counts, whatever another try would show."""
    return not all(rows["ok"].to_pylist()) and not any(rows["wrong"].to_pylist())


def write(rows: pa.Table, folder: Path, turn: Turn, instrument: str) -> str:
    """Write a measurement's rows into FOLDER/rows, whole or not at all, and return the file's name in FOLDER."""
    name = f"rows/{turn}-{instrument}.parquet"
    buffer = io.BytesIO()
    parquet.write_table(rows, buffer)
    atomic.write_file(folder / name, buffer.getvalue())
    return name
