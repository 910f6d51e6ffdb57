"""Memory and CPU of all processes of a service, its workers and their children included."""

import time
from collections.abc import Iterable
from pathlib import Path

from servepath.runner.processes import ServiceFiles, members

# Kernel, include/linux/posix-timers.h: a clock's number is made of a process's, and 2 stands for the scheduler's count.
SCHEDULER_CLOCK = 2


def pids(files: ServiceFiles) -> list[int]:
    """Return the service's processes."""
    return [process.pid for process in members(files)]


def pss_bytes(processes: Iterable[int]) -> int:
    """Return the proportional set size: private pages, and a share of each shared one. Raises OSError."""
    return sum(_pss_bytes(pid) for pid in processes)


class Cpu:
    """The CPU that processes have had; one that ends keeps what it had when it was last looked at."""

    def __init__(self, processes: Iterable[int]) -> None:
        self._ns = dict.fromkeys(processes, 0)

    def read_ns(self) -> int:
        """Return nanoseconds, those of ended threads included."""
        for pid in self._ns:
            self._ns[pid] = max(self._ns[pid], _cpu_ns(pid))
        return sum(self._ns.values())


def _pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _cpu_ns(pid: int) -> int:
    """Return a process's nanoseconds as the scheduler counts them, or 0 when it has ended.

    /proc/PID/task/*/schedstat lacks the threads that have ended, /proc/PID/stat has steps of 10 ms.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | SCHEDULER_CLOCK)
    except OSError:
        return 0
