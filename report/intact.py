"""Whether a measurement's rows are those that run.json tells of.

All of them, of that measurement, and with times that can be.

A report of damaged rows looks like any other and has other figures, so whatever is not as it was written is refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from report.schema import ReportError

WARMUP, MEASURE = "warmup", "measure"
# By column, what every row of a measurement has; the rest may be null where nobody said it.
NEVER_NULL = ("phase", "sent_ns", "service_us", "ok", "code", "wrong")
# Only where there was a schedule: in every row there, else in none.
SCHEDULE = ("scheduled_ns", "response_us")
TIMES = ("sent_ns", "scheduled_ns", "service_us", "response_us", "gateway_us", "backend_us", "queue_us")
SIZES = ("request_bytes", "reply_bytes")


def check(
    path: Path, table: pa.Table, owner: Mapping[str, Any], measurement: Mapping[str, Any], *, open_loop: bool
) -> None:
    """Raise ReportError for the first damage in a measurement's rows, naming the file.

    owner: what certain columns say in every row. measurement: the entry of run.json.
    """
    for damage in _damages(table, owner, measurement, open_loop=open_loop):
        raise ReportError(f"{path} {damage}; these are not the rows that were recorded: restore them or measure again")


def _damages(
    table: pa.Table, owner: Mapping[str, Any], measurement: Mapping[str, Any], *, open_loop: bool
) -> Iterator[str]:
    yield from _foreign(table, owner)
    yield from _impossible(table, open_loop=open_loop)
    yield from _miscounted(table, measurement)


def _foreign(table: pa.Table, owner: Mapping[str, Any]) -> Iterator[str]:
    for name, value in owner.items():
        found = compute.unique(table[name]).to_pylist()
        if found not in ([value], []):
            other = next(each for each in found if each != value)
            yield f"holds rows whose {name} is {other!r} and not {value!r}"


def _impossible(table: pa.Table, *, open_loop: bool) -> Iterator[str]:
    for name in (*NEVER_NULL, *(SCHEDULE if open_loop else ())):
        if nulls := table[name].null_count:
            yield f"holds {nulls:,} rows without {name}"
    for name in () if open_loop else SCHEDULE:
        if table[name].null_count < table.num_rows:
            yield f"holds rows with {name}, and run.json tells of a closed loop, which has no schedule"
    for name in (*TIMES, *SIZES):
        times = table[name].drop_null().to_numpy()
        if not np.all((times >= 0) & (times < np.inf)):
            bad = times[~((times >= 0) & (times < np.inf))]
            yield f"holds {len(bad):,} impossible values of {name}, such as {bad[0]}"
    phases = set(compute.unique(table["phase"]).to_pylist()) - {WARMUP, MEASURE}
    if phases:
        yield f"holds rows of a phase {min(map(str, phases))!r}"


def _miscounted(table: pa.Table, measurement: Mapping[str, Any]) -> Iterator[str]:
    measured = table.filter(compute.equal(table["phase"], MEASURE))
    counts = {
        "requests": measured.num_rows,
        "warmup_requests": table.num_rows - measured.num_rows,
        "errors": measured.num_rows - (compute.sum(measured["ok"]).as_py() or 0),
        "wrong_answers": compute.sum(measured["wrong"]).as_py() or 0,
    }
    for name, count in counts.items():
        if count != measurement[name]:
            yield f"holds {count:,} {name.replace('_', ' ')} and run.json counted {measurement[name]:,}"
