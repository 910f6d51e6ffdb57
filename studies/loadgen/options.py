"""What a cross-check was told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """The command line of `python -m studies.loadgen`."""

    paths: str
    via: str
    rate: float
    rounds: int
    seconds: float
    min_requests: int
    warmup: float
    seed: int
    out: Path
    exports: Path
    deployments: Path
    env_file: Path
