"""The processor, and the cores of it that a process may use, by its affinity and the quota of its control groups."""

import contextlib
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path


def usable_cores() -> int:
    """Return how many this process may use, a part of one counted whole; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = None
    with contextlib.suppress(OSError, IndexError, ValueError):  # no control groups, or of another kind
        quota = cpu_quota("self")
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(*processes: int | str) -> float | None:
    """Return how many cores the tightest cpu.max above each process (cgroup v2) leaves them together.

    A control group counts once, however many of the processes it has, and one above all of them bounds the sum. None
    where one of them has no quota. Raises OSError.
    """
    above = [set(_quotas(process)) for process in processes]
    if not above or not all(above):
        return None
    tightest = {place: quota for quota, place in (min(each) for each in above)}
    shared = above[0].intersection(*above[1:])
    return min([sum(tightest.values()), *(quota for quota, _ in shared)])


def _quotas(process: int | str) -> Iterator[tuple[float, Path]]:
    """Yield the quotas above a process, in cores, and their groups' folders."""
    line = Path(f"/proc/{process}/cgroup").read_text().splitlines()[-1]
    folder = Path("/sys/fs/cgroup") / line.rpartition(":")[2].lstrip("/")
    for place in (folder, *folder.parents):
        file = place / "cpu.max"
        if file.is_file():
            quota, period = file.read_text().split()
            if quota != "max":
                yield int(quota) / int(period), place


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def host_kind() -> str:
    """Return what of a machine decides which settings suit it, such as "2 cores, AMD EPYC 7763"."""
    cores = usable_cores()
    return f"{cores} core{'' if cores == 1 else 's'}, {cpu_model()}"
