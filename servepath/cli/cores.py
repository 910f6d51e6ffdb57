"""The cores that a process may use, by its affinity and by the quota of its control groups."""

import contextlib
import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Return how many this process may use, a part of one counted whole; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = None
    with contextlib.suppress(OSError, IndexError, ValueError):  # no control groups, or of another kind
        quota = cpu_quota("self")
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(process: int | str) -> float | None:
    """Return the tightest cpu.max above a process (cgroup v2), in cores; None where there is none. Raises OSError."""
    line = Path(f"/proc/{process}/cgroup").read_text().splitlines()[-1]
    folder = Path("/sys/fs/cgroup") / line.rpartition(":")[2].lstrip("/")
    quotas = []
    for place in (folder, *folder.parents):
        file = place / "cpu.max"
        if file.is_file():
            quota, period = file.read_text().split()
            quotas += [] if quota == "max" else [int(quota) / int(period)]
    return min(quotas, default=None)
