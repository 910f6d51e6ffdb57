"""A run on disk: results/RUN/run.json, written first and again whenever a measurement ends.

Once one has ended, results/latest points at the run: until then the one before is what there is to read.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.plan import Measurement
from servepath.artifacts import atomic
from servepath.results.names import RUN_FILE

SCHEMA = 3


class RunError(Exception):
    """The run cannot go on, and stays incomplete; the text says why."""


@dataclass(slots=True)
class Run:
    """What run.json says. `facts` is what is known before the load: host, commit, arguments, seed, fairness.

    measurements: of those that ended, in the order run. warmup: how long each path was asked before the first round.
    """

    folder: Path
    facts: Mapping[str, Any]
    measurements: list[dict[str, Any]] = field(default_factory=list)
    warmup: list[dict[str, Any]] = field(default_factory=list)
    _latest: bool = field(default=False, init=False)

    def save(self, *, complete: bool) -> None:
        """Write run.json. `complete` says that every planned measurement has ended; a reader trusts nothing else."""
        content = {**self.facts, "warmup": self.warmup, "measurements": self.measurements, "complete": complete}
        if complete:
            content["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        atomic.write_file(self.folder / RUN_FILE, json.dumps(content, indent=2) + "\n")
        if self.measurements and not self._latest:
            _point_latest(self.folder.parent, self.folder.name)
            self._latest = True


def start(results: Path, expected: Sequence[Measurement], facts: Mapping[str, Any]) -> Run:
    """Return a new run: its folder is there, and run.json is written as incomplete.

    expected: the measurements of every round. facts: among them "rounds", how many there are to be, and "load_model".
    """
    now = datetime.now(UTC)
    folder = new_folder(results, now)
    own: dict[str, Any] = {
        "schema": SCHEMA,
        "run": folder.name,
        "started": now.isoformat(timespec="seconds"),
        "expected": [measurement.to_dict() for measurement in expected],
    }
    run = Run(folder, own | dict(facts))
    run.save(complete=False)
    return run


def new_folder(results: Path, now: datetime) -> Path:
    """Create a folder in `results` that is named for the time `now` (UTC)."""
    name = now.strftime("%Y%m%dT%H%M%SZ")
    results.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        folder = results / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            attempt += 1
        else:
            return folder


def _point_latest(results: Path, name: str) -> None:
    temporary = results / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(results / "latest")
