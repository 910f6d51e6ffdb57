"""What the load test left on disk: run.json and one table of rows for each block."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

COLUMNS = ["phase", "sent_ns", "service_us", "ok", "code", "wrong"]
COLUMNS += ["version", "sha256", "engine", "engine_version", "gateway_us"]
FACTS = ("run", "started", "load_model", "expected", "complete", "arguments", "host", "git_commit", "seed", "blocks")


class ReportError(Exception):
    """A run cannot be read; the text names the file and the mend."""


class BlockName(NamedTuple):
    """A path and how it was reached."""

    model: str
    stack: str
    via: str

    def __str__(self) -> str:
        return f"{self.model}@{self.stack} {self.via}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A run: the content of run.json, and the tables by block."""

    facts: Mapping[str, Any]
    tables: Mapping[BlockName, pa.Table]

    @property
    def expected(self) -> tuple[BlockName, ...]:
        """Give the blocks that the run set out to measure."""
        return tuple(sorted(BlockName(**entry) for entry in self.facts["expected"]))


def read_run(folder: Path) -> Rows:
    """Read a run. Raises ReportError when a file is missing or is not what the load test writes."""
    facts = _read_facts(folder / "run.json")
    tables = {}
    for path in sorted((folder / "rows").glob("*.parquet")):
        table = _read_table(path)
        model, _, rest = path.stem.partition("@")
        stack, _, via = rest.rpartition(".")
        tables[BlockName(model, stack, via)] = table
    return Rows(facts, tables)


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ReportError(f"{path} is missing: no load test was recorded there; run: make loadtest") from error
    except ValueError as error:
        raise ReportError(f"{path} is not JSON ({error}); run: make loadtest") from error
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise ReportError(f"{path} has no {missing[0]!r}: it is not a load test's; run: make loadtest")
    return dict(facts)


def _read_table(path: Path) -> pa.Table:
    try:
        table = parquet.read_table(path, columns=COLUMNS)
    except (pa.ArrowException, OSError) as error:
        raise ReportError(f"{path} is not a table of requests ({error}); run: make loadtest") from error
    service_us = table["service_us"].combine_chunks().fill_null(math.nan)
    if not all(0 <= value < math.inf for value in service_us.to_pylist()):
        raise ReportError(f"{path} holds a service time that is none; run: make loadtest")
    return table
