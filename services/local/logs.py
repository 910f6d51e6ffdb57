"""The ends of the services' logs, once or as they grow."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from services.local.processes import Place

POLL_S = 0.2


def show(places: Sequence[Place], lines: int, write: Callable[[str], None]) -> None:
    """Write the last lines of each log under a headline that names its file."""
    for place in places:
        write(f"==> {place.log_file} <==")
        for line in place.tail(lines):
            write(line)


def follow(places: Sequence[Place], write: Callable[[str], None]) -> None:
    """Write every line that comes, after its service's name, until interrupted; new logs are picked up."""
    with contextlib.ExitStack() as stack:
        open_files: dict[Place, TextIO] = {}
        first = True
        while True:
            for place in places:
                _reopen(place, open_files, stack, at_end=first)
                for line in open_files.get(place, ()):
                    write(f"{place.name:10} | {line.rstrip()}")
            first = False
            time.sleep(POLL_S)


def _reopen(place: Place, open_files: dict[Place, TextIO], stack: contextlib.ExitStack, *, at_end: bool) -> None:
    """Open a log that is not open yet, or that a new start has replaced."""
    with contextlib.suppress(FileNotFoundError):
        found, known = place.log_file.stat().st_ino, open_files.get(place)
        if known is not None and _inode(known) == found:
            return
        open_files[place] = stack.enter_context(place.log_file.open(errors="replace"))
        if at_end:
            open_files[place].seek(0, 2)


def _inode(file: TextIO) -> int:
    return os.fstat(file.fileno()).st_ino
