"""Latencies of a real run, read from its rows."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from report.intervals import Array
from report.percentiles import per_round
from report.summary import build
from report.verdicts import METRICS, Latencies
from servepath.results.names import NO_OP_PATH


def read_latencies(folder: Path) -> Latencies:
    """Return the latencies of right answers, measurement to rounds.

    Response times where there was a schedule, else service.

    The no-op server is left out. Raises ValueError when there are no rows by round.
    """
    by_round: dict[int, dict[str, Array]] = defaultdict(dict)
    for path in sorted((folder / "rows").glob("r*-*@*.*.parquet")):
        number, _, measurement = path.stem.partition("-")
        if measurement.rpartition(".")[0] != NO_OP_PATH:
            by_round[int(number.removeprefix("r"))][measurement] = _right_answers(parquet.read_table(path))
    if not by_round:
        raise ValueError(f"{folder} has no rows by round (rows/rNN-MODEL@STACK.VIA.parquet); run: make loadtest")
    measurements = sorted({measurement for found in by_round.values() for measurement in found})
    return {
        measurement: [found.get(measurement, np.empty(0)) for _, found in sorted(by_round.items())]
        for measurement in measurements
    }


def read_stored(folder: Path) -> Latencies:
    """Return the latencies of all valid runs of the same measurements in a folder, one run's rounds after another's.

    Each run's own level of each measurement is left out: what differs between runs does not differ between rounds.
    Raises ValueError when there is no valid run or their measurements differ.
    """
    runs = [file.parent for file in sorted(folder.glob("[0-9]*/run.json"))]
    found = [_level(read_latencies(run)) for run in runs if build(run).valid]
    if not found:
        raise ValueError(f"{folder} holds no valid run, and {len(runs)} in all")
    if any(each.keys() != found[0].keys() for each in found):
        raise ValueError(f"{folder} holds runs of different measurements; they cannot be pooled")
    return {measurement: [rounds for each in found for rounds in each[measurement]] for measurement in found[0]}


def _level(latencies: Latencies) -> dict[str, list[Array]]:
    """Return latencies over the geometric mean of their measurement's medians."""
    levels = {
        measurement: np.exp(np.nanmean(np.log(per_round(rounds, METRICS["p50"]))))
        for measurement, rounds in latencies.items()
    }
    return {
        measurement: [samples / levels[measurement] for samples in rounds] for measurement, rounds in latencies.items()
    }


def _right_answers(table: pa.Table) -> Array:
    measured = compute.and_(compute.equal(table["phase"], "measure"), table["ok"])
    found = table.filter(compute.and_not(measured, table["wrong"]))
    scheduled = "response_us" in found.column_names and not found["response_us"].null_count
    return np.asarray(found["response_us" if scheduled else "service_us"], dtype=np.float64)
