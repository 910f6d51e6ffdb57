"""The numbers behind the pictures: short lists, so that the page stays small whatever the number of requests."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from report.percentiles import nearest_rank
from report.stats import Array, PathResult
from report.summary import Summary

POINTS = 120
# The pictures over time show windows of this length: short enough to show a pause of a fifth of a second.
WINDOW_S = 0.25
METRICS = {"response": "response_us", "service": "service_us"}

# Directly, rows do not tell client, network and server apart.
UNDIVIDED, CLIENT, QUEUE = "all (direct)", "client, network", "queue in the gateway"


class Series(NamedTuple):
    """A line in the pictures. key: its number. path: with its side, if any; the instrument's own is "no-op server"."""

    key: int
    name: str
    path: str
    via: str
    engine: str


def series(summary: Summary) -> list[Series]:
    """Return a line for each row with correct responses, the no-op server's last."""
    shown = [row for row in summary.rows if row.p50_ms is not None]
    found = [Series(key, str(row.name), row.server, row.via, row.engine_label) for key, row in enumerate(shown)]
    if summary.no_op is not None and summary.no_op.p50_ms is not None:
        name = "no-op server"
        found.append(Series(len(found), name, name, "direct", "answers at once: the baseline overhead"))
    return found


def rows_of(summary: Summary) -> list[PathResult]:
    """Return the rows of series(), in its order."""
    no_op = [] if summary.no_op is None else [summary.no_op]
    return [row for row in (*summary.rows, *no_op) if row.p50_ms is not None]


def curves(rows: Sequence[PathResult]) -> list[dict[str, Any]]:
    """Return latency by percentile: k the series, m the metric, n the number of nines (2 is p99), v milliseconds."""
    found = []
    for key, row in enumerate(rows):
        for metric, column in METRICS.items():
            ordered = np.sort(row.samples.times(column))
            found += [{"k": key, "m": metric, "n": nines, "v": value} for nines, value in _curve(ordered)]
    return found


def _curve(ordered_us: Array) -> Iterator[tuple[float, float]]:
    """Yield evenly spaced numbers of nines up to where one sample is slower."""
    if len(ordered_us):
        for nines in np.linspace(0, math.log10(len(ordered_us)), POINTS).tolist():
            percent = f"{100 * (1 - 10**-nines):.6f}"
            yield round(nines, 3), _short(nearest_rank(ordered_us, percent) / 1e3)


def over_time(rows: Sequence[PathResult]) -> list[dict[str, Any]]:
    """Return each window's median v and slowest x in milliseconds; t is seconds since the run began, r the round."""
    begin_ns = min((int(row.samples.sent_ns.min()) for row in rows), default=0)
    found = []
    for key, row in enumerate(rows):
        for metric, column in METRICS.items():
            found += [{"k": key, "m": metric} | point for point in _windows(row, column, begin_ns)]
    return found


def _windows(row: PathResult, column: str, begin_ns: int) -> Iterator[dict[str, Any]]:
    samples = row.samples
    values_ms = samples.times_us[column] / 1e3
    shown = samples.timed & np.isfinite(values_ms)
    values_ms, rounds = values_ms[shown], samples.round[shown]
    window = ((samples.sent_ns[shown] - begin_ns) // int(WINDOW_S * 1e9)).astype(int)
    for number in np.unique(window):
        these = window == number
        yield {
            "t": round(float((number + 0.5) * WINDOW_S), 3),
            "r": int(rounds[these][0]),
            "v": _short(float(np.median(values_ms[these]))),
            "x": _short(float(values_ms[these].max())),
        }


def parts(summary: Summary) -> list[dict[str, Any]]:
    """Return each path's mean service time by part, in milliseconds, in the order in which a request passes them."""
    found = []
    for row in summary.rows:
        if row.parts is not None:
            named: list[tuple[str, float | None]] = list(
                zip((CLIENT, "gateway", QUEUE, "backend"), row.parts, strict=True)
            )
            if row.via == "direct":
                named = [(UNDIVIDED, row.parts.client_us)]
            found += [
                {"name": str(row.name), "part": part, "order": order, "ms": _short(value_us / 1e3)}
                for order, (part, value_us) in enumerate(named)
                if value_us is not None
            ]
    return found


def capacity_steps(summary: Summary) -> list[dict[str, Any]]:
    """Return the rates that the search for the capacity tried, with their p99."""
    if summary.capacity is None:
        return []
    return [
        {"name": _searched(path), "path": f"{path['model']}@{path['stack']}"}
        | {"via": path["via"], "rate": step["rate_rps"], "p99": step["p99_ms"], "met": step["met"]}
        for path in summary.capacity["paths"]
        for step in path["steps"]
        if step["p99_ms"] is not None and step.get("outcome") != "invalid"
    ]


def _searched(path: Mapping[str, Any]) -> str:
    name, settings = f"{path['model']}@{path['stack']} {path['via']}", path.get("settings", "default")
    return name if settings == "default" else f"{name}, {settings}"


def _short(value: float) -> float:
    return float(f"{value:.4g}")
