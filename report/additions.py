"""What other commands add to a run later: its capacity and its scorecard. None while they have not."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report import schema

WANTED_RPS = 2000.0


def capacity(folder: Path) -> Mapping[str, Any] | None:
    """Read RUN/capacity.json (report/schemas/capacity.schema.json). Raises ReportError when it is not such a file."""
    content = _read(folder / "capacity.json", "capacity")
    return None if content is None else dict(content["capacity"])


def scorecard(folder: Path) -> tuple[Mapping[str, Any], ...] | None:
    """Read RUN/scorecard.json (report/schemas/scorecard.schema.json). Raises ReportError when it is not such a file."""
    content = _read(folder / "scorecard.json", "scorecard")
    return None if content is None else tuple(content["scorecard"])


def capacity_answer(found: Mapping[str, Any], engines: Mapping[str, str]) -> str:
    """Give the capacity as a sentence. engines: engine and version by MODEL@STACK."""
    wanted_rps = found.get("wanted_rps", WANTED_RPS)
    parts = []
    for path in found["paths"]:
        name = f"{path['model']}@{path['stack']}"
        who = f"{name} {path['via']} [{engines.get(name, 'not in this run')}]"
        parts.append(f"{who} {_cores(path, wanted_rps)}")
    return f"For {wanted_rps:,g} req/s at p99 below {found['slo_p99_ms']:g} ms: {', '.join(parts)}."


def _cores(path: Mapping[str, Any], wanted_rps: float) -> str:
    if not path["rate_rps"]:
        return "meets it at no rate"
    cores = math.ceil(wanted_rps / path["rate_rps"] * path["cores"])
    return f"{cores} core{'s' if cores > 1 else ''}"


def _read(path: Path, name: str) -> dict[str, Any] | None:
    return schema.read(path, name, missing="") if path.exists() else None
