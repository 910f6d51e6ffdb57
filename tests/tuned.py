"""A file of tuned settings, whose values tests change."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from servepath.cli.cores import host_kind
from servepath.protocols import tuned
from servepath.protocols.deployments import PathLimits
from servepath.protocols.tuned import Tuned

DEFAULT_LIMITS = tuned.worded(asdict(PathLimits()))


def make_tuned(path: str, settings: Mapping[str, int], **other: Any) -> Tuned:
    """Return tuned settings for this machine, found with certainty."""
    values: dict[str, Any] = {
        "goal": "rate",
        "slo_p99_ms": 20.0,
        "rate_rps": 0.0,
        "ratio": 1.31,
        "low": 1.22,
        "high": 1.4,
        "rounds": 12,
        "confirmed": True,
        "trials": 9,
        "best": "",
        "date": "2026-11-29",
        "host": host_kind(),
        "engine": "onnxruntime 1.31.1",
        "artifact_sha256": "ab" * 32,
        "default_limits": DEFAULT_LIMITS,
        "git_commit": "unknown",
        "seed": 1,
    }
    return Tuned(path=path, settings=settings, **(values | other))


def write_tuned(folder: Path, path: str, settings: Mapping[str, int], **other: Any) -> Path:
    """Write such a file into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tuned.file_of(folder, path).write_text(make_tuned(path, settings, **other).to_toml())
    return folder
