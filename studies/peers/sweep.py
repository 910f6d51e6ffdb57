"""TorchServe at its best: every tuning of the sweep under each load, once a machine; the best is kept in a file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from servepath.artifacts import atomic
from studies.peers.rows import SWEEP, Load, Tuning

# From a tuning to its requests/s under each load; a load is missing where the measurement was void.
Try = Callable[[Tuning], Mapping[Load, float]]


def best(file: Path, key: Mapping[str, Any], loads: Sequence[Load], attempt: Try) -> dict[Load, Tuning]:
    """Return the fastest tuning for each load, from the file if it was found for the same key, else by trying all.

    key: what the result depends on: machine, versions, artifact.
    """
    asked = json.loads(json.dumps({**key, "sweep": SWEEP}))
    found = _read(file)
    if found.get("key") != asked or any(str(load) not in rates for rates in found["rates"] for load in loads):
        rates = [{str(load): rate for load, rate in attempt(tuning).items()} for tuning in SWEEP]
        found = {"key": asked, "rates": rates}
        atomic.write_file(file, json.dumps(found, indent=1) + "\n")
    return {load: choose(found["rates"], load) for load in loads}


def choose(rates: Sequence[Mapping[str, float]], load: Load) -> Tuning:
    """Return the tuning whose rate under a load is highest; rates are in the order of the sweep."""
    return max(zip(SWEEP, rates, strict=True), key=lambda pair: pair[1].get(str(load), 0.0))[0]


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found
