"""The ends of the services' logs, once or as they grow."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from servepath.runner.processes import ServiceFiles

POLL_S = 0.2


def show(places: Sequence[ServiceFiles], lines: int, write: Callable[[str], None]) -> None:
    """Write the last lines of each log under a headline that names its file."""
    for place in places:
        write(f"==> {place.log_file} <==")
        for line in place.tail(lines):
            write(line)


def ends(places: Sequence[ServiceFiles]) -> dict[ServiceFiles, int]:
    """Return each log's size in bytes, 0 where there is none: where `follow` has to go on after `show`."""
    return {place: place.log_file.stat().st_size if place.log_file.exists() else 0 for place in places}


def follow(places: Sequence[ServiceFiles], begin: Mapping[ServiceFiles, int], write: Callable[[str], None]) -> None:
    """Write every line behind `begin`, after its service's name, until interrupted; new logs are picked up."""
    with contextlib.ExitStack() as stack:
        open_files: dict[ServiceFiles, TextIO] = {}
        starts = dict(begin)
        while True:
            for place in places:
                _reopen(place, open_files, stack, starts.pop(place, 0))
                for line in open_files.get(place, ()):
                    write(f"{place.name:10} | {line.rstrip()}")
            time.sleep(POLL_S)


def _reopen(
    place: ServiceFiles, open_files: dict[ServiceFiles, TextIO], stack: contextlib.ExitStack, start: int
) -> None:
    """Open a log that is not open yet, or that a new start has replaced."""
    with contextlib.suppress(FileNotFoundError):
        found, known = place.log_file.stat().st_ino, open_files.get(place)
        if known is not None and _inode(known) == found:
            return
        open_files[place] = stack.enter_context(place.log_file.open(errors="replace"))
        open_files[place].seek(start)


def _inode(file: TextIO) -> int:
    return os.fstat(file.fileno()).st_ino
