"""The servers of a run: restarted for each, so that what a process has by luck is drawn again, too."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from servepath.artifacts import atomic

READY_S, STOP_S, POLL_S = 60.0, 30.0, 0.05
TAIL_CHARACTERS = 400
# Above, the server would run on threads the calls that it runs on its loop now (services/onnx_svc/threads.py).
MAX_DELAY_US = 150.0
LISTENING = re.compile(r"studies\.injected_delay\.injected: listening on (\S+:\d+)$", re.MULTILINE)
# What .env calls the address of the stack; the load test reads it from a side's file.
ADDRESS_VARIABLE = "ONNX_SVC_ADDR"

Process = subprocess.Popen[bytes]


class CommandFailed(Exception):
    """A server or a command that the proof needs did not do its work; the text says which and why."""


@contextmanager
def running(delays_us: Mapping[str, float], exports: Path, out: Path) -> Iterator[dict[str, Path]]:
    """Run a server for each side, in the order given, and return each side's file of addresses.

    Logs are OUT/logs/SIDE.log, the files OUT/sides/SIDE.env. Leaving the measurement stops them all. Raises
    CommandFailed.
    """
    with ExitStack() as stack:
        started = {}
        for side, delay_us in delays_us.items():
            command = ["studies.injected_delay.injected", "--delay-us", f"{delay_us:g}", "--models", str(exports)]
            command += ["--port", "0", "--metrics-port", "0"]
            started[side] = stack.enter_context(process(command, out / "logs" / f"{side}.log"))
        files = {}
        for side, server in started.items():
            files[side] = out / "sides" / f"{side}.env"
            address = _address(side, server, out / "logs" / f"{side}.log")
            atomic.write_file(files[side], f"{ADDRESS_VARIABLE}={address}\n")
        yield files


@contextmanager
def process(words: list[str], log: Path) -> Iterator[Process]:
    """Run `python -m WORDS`, all that it says in `log`; leaving the measurement stops it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # Ctrl-C reaches us alone: we stop it
        )
        try:
            yield started
        finally:
            _stop(started)


def tail(log: Path) -> str:
    """Return the end of a log on one line."""
    return " ".join(log.read_text(errors="replace")[-TAIL_CHARACTERS:].split()) or "(empty)"


def _address(side: str, server: Process, log: Path) -> str:
    """Wait until the server says where it listens: it has answered a row by then. Raises CommandFailed."""
    end = time.monotonic() + READY_S
    while not (said := LISTENING.search(log.read_text(errors="replace"))):
        if server.poll() is not None or time.monotonic() > end:
            raise CommandFailed(f"the server of side {side} is not ready; {log} ends: {tail(log)}")
        time.sleep(POLL_S)
    return said[1]


def _stop(server: Process) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(STOP_S)
