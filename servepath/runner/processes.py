"""The processes of a service: started in a session of their own, found by a mark in their environment, stopped whole.

Little code of ours instead of mirakuru or honcho: both end their processes when the program that started them ends, and
`up` has to leave them running. Every process inherits the mark, whatever session or parent it moves to, so that a
stranger who was given a dead service's pid is never taken for it, and a worker that outlived its parent is found.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from servepath.artifacts.atomic import write_file
from servepath.cli import children
from servepath.cli.children import Process
from servepath.cli.locked import Held, locked
from servepath.runner.config import Service

# In the environment of a service: whose process it is. `down` finds by it what an earlier version started, so it stays.
MARK = "SERVEPATH_LOCAL"
POLL_S = 0.05
# How long the kernel may take to end what it was told to kill.
KILL_S = 10.0


class RunError(Exception):
    """A service cannot be started or stopped; the text names it and the fix."""


@dataclass(frozen=True, slots=True)
class ServiceFiles:
    """Where one service's traces are. run_dir is absolute."""

    run_dir: Path
    name: str

    @property
    def pid_file(self) -> Path:
        """Return the file that holds the service's process id."""
        return self.run_dir / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        """Return the file that takes the service's output."""
        return self.run_dir / f"{self.name}.log"

    @property
    def mark(self) -> str:
        """Return the marker in the environment of the service's processes."""
        return f"{self.run_dir}:{self.name}"

    def tail(self, lines: int) -> list[str]:
        """Return the last lines of the log; empty when there is no log."""
        try:
            with self.log_file.open(errors="replace") as file:
                return file.read().splitlines()[-lines:] if lines else []
        except FileNotFoundError:
            return []


def start(service: Service, files: ServiceFiles) -> Process:
    """Start a service and write its pid file; it gets a new log, the previous one is kept. Raises RunError."""
    files.run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        files.log_file.replace(files.log_file.with_suffix(".log.1"))
    environment = {**service.environment, MARK: files.mark}
    try:
        process = children.start(service.command, files.log_file, environment=environment, outlives_us=True)
    except OSError as error:
        raise RunError(f"{service.name}: cannot run {service.command[0]}: {error.strerror}") from error
    write_file(files.pid_file, f"{process.pid}\n")
    return process


def main_process(files: ServiceFiles) -> psutil.Process | None:
    """Return the process of the pid file, if it is alive and this service's."""
    try:
        process = psutil.Process(int(files.pid_file.read_text()))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if _carries(process, files.mark) else None


def members(files: ServiceFiles) -> list[psutil.Process]:
    """Return every living process of the service, workers and their children included."""
    return [process for process in psutil.process_iter() if _carries(process, files.mark)]


def stop(all_files: Sequence[ServiceFiles], grace_s: float) -> dict[str, str]:
    """Stop services together: SIGTERM to their main processes, `grace_s` seconds, then SIGKILL to the rest.

    Gives what was done, by name, for those that ran. Raises RunError when something cannot be ended.
    """
    begin = time.monotonic()
    ran = {files: members(files) for files in all_files}
    for files, found in ran.items():
        _terminate(files, found)
    done = {}
    for files, found in ran.items():
        left_s = begin + grace_s - time.monotonic()
        in_time = _wait(partial(_is_gone, files), left_s)
        if not in_time:
            _kill(files)
        files.pid_file.unlink(missing_ok=True)
        how = "stopped" if in_time else f"did not stop within {grace_s:g} s, killed"
        if found:
            done[files.name] = f"{how} after {time.monotonic() - begin:.1f} s"
    return done


def _terminate(files: ServiceFiles, found: Sequence[psutil.Process]) -> None:
    # The main process ends its workers itself, in order; where it is gone, nobody else does.
    main = main_process(files)
    for process in [main] if main else found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


@contextlib.contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Lock out any other `up` or `down`. Raises RunError when one is running."""
    try:
        with locked(run_dir / "lock"):
            yield
    except Held:
        raise RunError(f"another up or down is running in {run_dir}: wait for it") from None


def _is_gone(files: ServiceFiles) -> bool:
    return not members(files)


def _kill(files: ServiceFiles) -> None:
    def all_gone() -> bool:
        left = members(files)  # looked up again each time: a dying parent may have started one more
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return not left

    if not _wait(all_gone, KILL_S):
        pids = ", ".join(str(process.pid) for process in members(files))
        raise RunError(f"{files.name}: pid {pids} is still running {KILL_S:g} s after SIGKILL")


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _carries(process: psutil.Process, mark: str) -> bool:
    """Return whether a living process carries the marker; one that we may not inspect is not ours."""
    if process.pid == os.getpid():
        return False
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):  # gone, a zombie, or another user's
        return False
