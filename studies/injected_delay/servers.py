"""The servers of a run: restarted for each, so that what a process has by luck is drawn again, too."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from servepath.artifacts import atomic
from servepath.cli import children
from servepath.cli.children import Process, tail

READY_S, STOP_S, POLL_S = 60.0, 30.0, 0.05
# Above, the server would run on threads the calls that it runs on its loop now (services/oip_server/threads.py).
MAX_DELAY_US = 150.0
LISTENING = re.compile(r"studies\.injected_delay\.injected: listening on (\S+:\d+)$", re.MULTILINE)
# What .env calls the address of the stack; the load test reads it from a side's file.
ADDRESS_VARIABLE = "ONNX_SVC_ADDR"


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


def process(words: list[str], log: Path) -> AbstractContextManager[Process]:
    """Run `python -m WORDS`, all that it says in `log`; leaving the `with` statement stops it."""
    return children.running([sys.executable, "-m", *words], log, grace_s=STOP_S)


def _address(side: str, server: Process, log: Path) -> str:
    """Wait until the server says where it listens: it has answered a row by then. Raises CommandFailed."""
    end = time.monotonic() + READY_S
    while not (said := LISTENING.search(log.read_text(errors="replace"))):
        if server.poll() is not None or time.monotonic() > end:
            raise CommandFailed(f"the server of side {side} is not ready; {log} ends: {tail(log)}")
        time.sleep(POLL_S)
    return said[1]
