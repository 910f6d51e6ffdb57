"""What the search for a capacity was told."""

from dataclasses import dataclass
from pathlib import Path

# Of a path: half load after an overload then lasts 0.9 s, and well again is half a second (overload.py).
SHORTEST_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityOptions:
    """The command line of `python -m loadtest.capacity`. run: the folder of the run that gets the capacity."""

    slo_p99_ms: float
    paths: str
    via: str
    rows: int
    payloads: Path | None
    wanted_rps: float
    seconds: float
    seed: int
    connections: int
    processes: int
    no_real_time: bool
    run: Path
    exports: Path
    deployments: Path
    env_file: Path
