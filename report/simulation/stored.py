"""Latencies of a real run, read from its rows."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from report.intervals import Array
from report.verdicts import NULL_PATH, Latencies


def read_latencies(folder: Path) -> Latencies:
    """Give the latencies of right answers, block to rounds: response times where there was a schedule, else service.

    The null endpoint is left out. Raises ValueError when there are no rows by round.
    """
    by_round: dict[int, dict[str, Array]] = defaultdict(dict)
    for path in sorted((folder / "rows").glob("r*-*@*.*.parquet")):
        number, _, block = path.stem.partition("-")
        if block.rpartition(".")[0] != NULL_PATH:
            by_round[int(number.removeprefix("r"))][block] = _right_answers(parquet.read_table(path))
    if not by_round:
        raise ValueError(f"{folder} has no rows by round (rows/rNN-MODEL@STACK.VIA.parquet); run: make loadtest")
    blocks = sorted({block for found in by_round.values() for block in found})
    return {block: [found.get(block, np.empty(0)) for _, found in sorted(by_round.items())] for block in blocks}


def _right_answers(table: pa.Table) -> Array:
    measured = compute.and_(compute.equal(table["phase"], "measure"), table["ok"])
    found = table.filter(compute.and_not(measured, table["wrong"]))
    scheduled = "response_us" in found.column_names and not found["response_us"].null_count
    return np.asarray(found["response_us" if scheduled else "service_us"], dtype=np.float64)
