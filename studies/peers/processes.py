"""Servers as child processes: pinned to cores, awaited, and stopped by their own pids whatever happens."""

import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from servepath.cli import children
from servepath.cli.children import Process

READY_S = 60.0
# TorchServe takes its time, and a draining server waits for its calls.
STOP_S = 40.0
POLL_S = 0.05


class ServerFailed(Exception):
    """A server is not there; the text says which and why."""


class Servers:
    """What has been started; leaving the `with` block stops it, the last one first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[Process] = []

    def start(
        self, name: str, words: Sequence[str], cores: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program on these cores ("0" or "0,1"). Its log is LOGS/N-NAME.log. Raises ServerFailed."""
        try:
            log = self._log(name, len(self._started))
            process = children.start(pinned(cores, words), log, environment=os.environ | (environment or {}))
        except OSError as error:
            raise ServerFailed(f"{name} cannot be started: {error}") from error
        self._started.append(process)
        return process

    def wait(self, name: str, process: Process, unready: Callable[[], str]) -> None:
        """Wait until `unready` gives no reason. Raises ServerFailed with the end of the log."""
        end = time.monotonic() + READY_S
        while why := unready():
            if process.poll() is not None or time.monotonic() > end:
                said = children.tail(self._log(name, self._started.index(process)))
                raise ServerFailed(f"{name} is not ready ({why}); its log ends: {said}")
            time.sleep(POLL_S)

    def cpu_s(self) -> float:
        """Return the CPU time, in seconds, of the running servers, this process and its finished children."""
        running = sum(cpu_ns(process.pid) for process in self._started if process.poll() is None)
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return running / 1e9 + sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def _log(self, name: str, number: int) -> Path:
        return self._logs / f"{number}-{name.replace(' ', '-').replace(',', '')}.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            children.end(process, STOP_S)


def pinned(cores: str, words: Sequence[str]) -> list[str]:
    """Return the command on these cores alone; taskset becomes the program, so the pid is the program's."""
    return ["taskset", "-c", cores, *words]


def machine_cpu_s() -> float:
    """Return the seconds that this machine's cores have been busy, time stolen by other guests included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def cpu_ns(pid: int) -> int:
    """Return the CPU time, in nanoseconds, of a process's living threads and of its children.

    The scheduler counts these; the clock ticks of /proc/PID/stat are 10 ms each.
    """
    pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    files = [file for one in pids for file in Path(f"/proc/{one}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files)
