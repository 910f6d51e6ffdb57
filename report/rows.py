"""What the load test left on disk: run.json, and one table of rows for each measurement of each round."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from report import intact, schema
from report.schema import ReportError
from servepath.results.names import CLOSED, NO_OP_NAME, ROWS_FILE, RUN_FILE, key_of

# Whose rows they are: the same in every row of a file.
OWNER = {"run": pa.string(), "round": pa.int32(), "model": pa.string(), "stack": pa.string(), "via": pa.string()}
COLUMNS = {
    **{name: pa.string() for name in ("phase", "code", "sha256", "engine", "engine_version")},
    **{name: pa.int64() for name in ("sent_ns", "scheduled_ns", "version", "gateway_us", "backend_us")},
    **{name: pa.float64() for name in ("service_us", "response_us")},
    **{name: pa.bool_() for name in ("ok", "wrong")},
}
# Columns that older runs do not have: they are read as nulls there, and as no side.
QUEUE, SIDE = "queue_us", "side"
SIZES = ("request_bytes", "reply_bytes")
LATER = {name: pa.int64() for name in (QUEUE, *SIZES)}


class MeasurementName(NamedTuple):
    """A path and how it was reached. side: which of several servers of it, where a run compares such."""

    model: str
    stack: str
    via: str
    side: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.via}" + (f" {self.side}" if self.side else "")

    @property
    def path(self) -> str:
        """Return MODEL@STACK."""
        return f"{self.model}@{self.stack}"

    @property
    def key(self) -> str:
        """Return MODEL@STACK.via or MODEL@STACK.via~side, as files, verdicts and the fairness manifest have it."""
        return key_of(self.path, self.via, self.side)


def name_of(found: Mapping[str, Any]) -> MeasurementName:
    """Return the name that an entry of run.json has."""
    return MeasurementName(found["model"], found["stack"], found["via"], found.get("side", ""))


# The endpoint that answers at once: what it shows is the instrument itself. It is not a path.
NO_OP = MeasurementName(NO_OP_NAME, NO_OP_NAME, "direct")


@dataclass(frozen=True, slots=True)
class Rows:
    """A run: its folder, the content of run.json, and the tables by measurement and round."""

    folder: Path
    facts: Mapping[str, Any]
    tables: Mapping[MeasurementName, Mapping[int, pa.Table]]

    @property
    def expected(self) -> tuple[MeasurementName, ...]:
        """Return the measurements that the run planned for every round."""
        return tuple(sorted(name_of(entry) for entry in self.facts["expected"]))

    @property
    def open_loop(self) -> bool:
        """Return whether requests had a schedule."""
        return bool(self.facts["load_model"] != CLOSED)

    @property
    def rounds(self) -> tuple[int, ...]:
        """Return the rounds that count: those with every expected measurement, or all when no round is complete."""
        every = sorted({number for tables in self.tables.values() for number in tables})
        full = [number for number in every if all(number in self.tables.get(name, {}) for name in self.expected)]
        return tuple(full or every)


def read_run(folder: Path) -> Rows:
    """Read a run. Raises ReportError when a file is missing or is not what the load test wrote."""
    facts = schema.read(folder / RUN_FILE, "run", missing="no load test was recorded there; run: make loadtest")
    recorded = {(folder / measurement["rows"]).name: measurement for measurement in facts["measurements"]}
    open_loop = facts["load_model"] != CLOSED
    tables: dict[MeasurementName, dict[int, pa.Table]] = {}
    for path in sorted((folder / "rows").glob("*.parquet")):
        name, number = _measurement_of(path)
        measurement = recorded.get(path.name)
        if measurement is None:
            if facts["complete"]:
                raise ReportError(f"{path} holds rows of which run.json does not tell; remove the file")
            continue  # a killed run wrote it and had no time to say so
        if (name_of(measurement), measurement["round"]) != (name, number):
            raise ReportError(
                f"{path} is of {name_of(measurement)}, round {measurement['round']}, by run.json; restore the file"
            )
        table = read_table(path)
        owner = {"run": facts["run"], "round": number, **name._asdict()}
        intact.check(path, table, owner, measurement, open_loop=open_loop)
        tables.setdefault(name, {})[number] = table.select(["round", *COLUMNS, *LATER])
    return Rows(folder, facts, tables)


def _measurement_of(path: Path) -> tuple[MeasurementName, int]:
    found = ROWS_FILE.fullmatch(path.stem)
    if found is None:
        raise ReportError(f"{path} is not named rROUND-MODEL@STACK.VIA.parquet; run: make loadtest")
    return MeasurementName(found["model"], found["stack"], found["via"], found["side"] or ""), int(found["round"])


def read_table(path: Path) -> pa.Table:
    """Return a file's rows, with every column of its type. Raises ReportError when it is not what was written."""
    wanted = {**OWNER, **COLUMNS, **LATER, SIDE: pa.string()}
    try:
        with parquet.ParquetFile(path) as file:  # opened once, which is most of the time that a file of this size takes
            there = file.schema_arrow.names
            missing = [name for name in (*OWNER, *COLUMNS) if name not in there]
            if missing:
                raise ReportError(f"{path} has no column {missing[0]!r}; run: make loadtest")
            table = file.read(columns=[name for name in wanted if name in there], use_threads=False)
        table = table.cast(pa.schema([(name, wanted[name]) for name in table.column_names]))
    except (pa.ArrowException, OSError) as error:
        said = next(iter(str(error).splitlines()), "")
        raise ReportError(f"{path} is not a table of requests ({said}); run: make loadtest") from error
    for name in [name for name in LATER if name not in there]:
        table = table.append_column(name, pa.nulls(table.num_rows, wanted[name]))
    return table if SIDE in there else table.append_column(SIDE, pa.array([""] * table.num_rows, wanted[SIDE]))


def write_json(content: Mapping[str, Any]) -> str:
    """Format JSON as this project's files have it."""
    return json.dumps(content, indent=2) + "\n"
