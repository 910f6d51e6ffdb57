"""How long a new process takes until each of its paths answers correctly, and how it is ended again."""

import time
from collections.abc import Sequence
from pathlib import Path

from loadtest.cost.path_probe import PathProbe
from servepath.runner import ports, processes
from servepath.runner.config import Service
from servepath.runner.processes import RunError, ServiceFiles

START_S = 120.0
STOP_S = 30.0
# Fine beside starts of seconds; asking more often would take the starting service's cores.
POLL_S = 0.02
TAIL_LINES = 20
Name = tuple[str, str]


def start(service: Service, files: ServiceFiles, exports: Path, names: Sequence[Name]) -> dict[Name, float]:
    """Start a service and return the seconds from there to the first right answer of each path.

    It goes on running. Raises RunError with the end of its log when it ends or takes too long, and WrongAnswer.
    """
    ports.refuse_busy([service])
    took_s: dict[Name, float] = {}
    with PathProbe(service, exports, names) as asker:
        begin = time.monotonic()
        process = processes.start(service, files)
        while len(took_s) < len(names):
            for name in names:
                if name not in took_s and asker.right(*name):
                    took_s[name] = time.monotonic() - begin
            if process.poll() is not None or time.monotonic() - begin > START_S:
                raise _failure(service, files, process.poll())
            time.sleep(POLL_S)
    return took_s


def stop(all_files: Sequence[ServiceFiles]) -> None:
    """Stop services. Raises RunError when a process cannot be stopped."""
    processes.stop(all_files, STOP_S)


def _failure(service: Service, files: ServiceFiles, code: int | None) -> RunError:
    what = f"returns no correct response within {START_S:g} s" if code is None else f"ended with exit code {code}"
    tail = "\n".join(f"  {line}" for line in files.tail(TAIL_LINES)) or "  (empty)"
    return RunError(f"{service.name} {what}; the end of {files.log_file}:\n{tail}")
