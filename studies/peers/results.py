"""What a run found: a result a row, and the file that keeps it."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from servepath.artifacts import atomic
from studies.peers.figures import FIGURES, MAX_OTHERS, Measured, MedianInterval, ratio, spread, verdict
from studies.peers.rows import RequiredMeasurement, Row

PACKAGES = ("grpcio", "uvloop", "hpack", "protobuf", "prometheus-client", "onnxruntime-gpu", "torchserve")
SCHEMA = 1
Round = Mapping[RequiredMeasurement, Measured]


@dataclass(frozen=True, slots=True)
class Result:
    """A row and its ratio.

    ours, peer: medians over the rounds. why: what makes it void or missing, "" if nothing. others: the most cores that
    others' processes kept busy during one of its measurements.
    """

    row: Row
    spread: MedianInterval | None = None
    ours: float = 0.0
    peer: float = 0.0
    why: str = ""
    void: bool = False
    others: float = 0.0

    @property
    def verdict(self) -> str:
        """Return how it compares with threshold and target, or that others used the machine meanwhile."""
        if self.others > MAX_OTHERS:
            return f"others: {self.others:.2f} cores"
        return verdict(self.row, self.spread.middle) if self.spread else ""


def result_of(row: Row, rounds: Sequence[Round]) -> Result:
    """Return a row's result; one void round voids the row."""
    try:
        ratios = [ratio(row, round_) for round_ in rounds]
    except ValueError as error:
        return Result(row, why=f"void: {error}", void=True)
    ours, peer = (_middle(row, need, rounds) for need in row.needs[:2])
    others = max(round_[need].others for round_ in rounds for need in row.needs)
    return Result(row, spread(ratios), ours, peer, others=others)


def _middle(row: Row, need: RequiredMeasurement, rounds: Sequence[Round]) -> float:
    return median(FIGURES[row.figure].of(round_[need]) or 0.0 for round_ in rounds)


def save(
    file: Path, facts: Mapping[str, Any], results: Sequence[Result], rounds: Mapping[str, Sequence[Round]]
) -> None:
    """Write everything as JSON: facts, rows, and each measurement of each round of each setup."""
    rows = [{**result.row._asdict(), **_ratio(result), "verdict": result.verdict} for result in results]
    measurements = [
        {"setup": name, "round": number, **need._asdict(), "load": str(need.load), **asdict(measured)}
        for name, of_setup in rounds.items()
        for number, round_ in enumerate(of_setup, start=1)
        for need, measured in round_.items()
    ]
    content = {"schema": SCHEMA, **facts, "rows": rows, "measurements": measurements}
    atomic.write_file(file, json.dumps(content, indent=1) + "\n")


def _ratio(result: Result) -> dict[str, Any]:
    found = result.spread._asdict() if result.spread else None
    return {
        "load": str(result.row.load),
        "ratio": found,
        "ours_median": result.ours,
        "why": result.why,
        "others": result.others,
    } | {"peer_median": result.peer}


def host() -> dict[str, object]:
    """Return the kind of machine: CPU, cores that we may use, memory in bytes, system; no names."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of what our servers stand on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
