"""h2load (nghttp2): one run of it, and what it prints, read."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from studies.peers.rows import Load

UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
# It has been seen to wait for ever for a reply that does not come.
SLACK_S = 15.0


class LoadFailed(Exception):
    """h2load did not end, or printed what cannot be read; the text says which."""


class Counted(NamedTuple):
    """What h2load saw. A gRPC refusal counts as succeeded there: look at data_bytes, too."""

    total: int
    succeeded: int
    rate: float
    mean_us: float
    data_bytes: int


class Aim(NamedTuple):
    """Where requests go. body: a file to POST, None for GET."""

    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: Path | None = None


def words(aim: Aim, load: Load, *more: str) -> list[str]:
    """Build h2load's command line."""
    body = ["-d", str(aim.body)] if aim.body else []
    headers = [word for name, value in aim.headers for word in ("-H", f"{name}: {value}")]
    return ["h2load", "-t1", f"-c{load.connections}", f"-m{load.streams}", *body, *headers, *more, aim.url]


def run(command: Sequence[str], seconds: float) -> Counted:
    """Run h2load, which should take about `seconds`. Raises LoadFailed."""
    limit_s = 4 * seconds + SLACK_S
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"h2load did not end within {limit_s:.0f} s") from None
    return parse(done.stdout)


def parse(text: str) -> Counted:
    """Read what h2load prints. Raises LoadFailed."""
    finished = re.search(r"^finished in .*?, ([\d.]+) req/s", text, re.MULTILINE)
    requests = re.search(r"^requests: (\d+) total, .*? (\d+) succeeded", text, re.MULTILINE)
    data = re.search(r"^traffic: .*\((\d+)\) data$", text, re.MULTILINE)
    times = re.search(r"^time for request: +\S+ +\S+ +([\d.]+)(us|ms|s)", text, re.MULTILINE)
    if not (finished and requests and data and times):
        raise LoadFailed(f"h2load printed no result: {' '.join(text.split())[-200:] or 'nothing at all'}")
    mean_us = float(times[1]) * UNITS_US[times[2]]
    return Counted(int(requests[1]), int(requests[2]), float(finished[1]), mean_us, int(data[1]))


def median_us(log: str) -> float:
    """Return the median of a --log-file: a line is start, status and microseconds of one request. Raises LoadFailed."""
    times = [int(line.rpartition("\t")[2]) for line in log.splitlines()]
    if not times:
        raise LoadFailed("h2load logged no request")
    return float(median(times))
