"""The ends of the services' logs, once or as they grow."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from servepath.runner.processes import ServiceFiles

POLL_S = 0.2


def show(all_files: Sequence[ServiceFiles], lines: int, write: Callable[[str], None]) -> None:
    """Write the last lines of each log under a headline that names its file."""
    for files in all_files:
        write(f"==> {files.log_file} <==")
        for line in files.tail(lines):
            write(line)


def ends(all_files: Sequence[ServiceFiles]) -> dict[ServiceFiles, int]:
    """Return each log's size in bytes, 0 where there is none: where `follow` has to go on after `show`."""
    return {files: files.log_file.stat().st_size if files.log_file.exists() else 0 for files in all_files}


def follow(all_files: Sequence[ServiceFiles], begin: Mapping[ServiceFiles, int], write: Callable[[str], None]) -> None:
    """Write every line behind `begin`, after its service's name, until interrupted; new logs are picked up."""
    with contextlib.ExitStack() as stack:
        open_files: dict[ServiceFiles, TextIO] = {}
        starts = dict(begin)
        while True:
            for files in all_files:
                _reopen(files, open_files, stack, starts.pop(files, 0))
                for line in open_files.get(files, ()):
                    write(f"{files.name:10} | {line.rstrip()}")
            time.sleep(POLL_S)


def _reopen(
    files: ServiceFiles, open_files: dict[ServiceFiles, TextIO], stack: contextlib.ExitStack, start: int
) -> None:
    """Open a log that is not open yet, or that a new start has replaced."""
    with contextlib.suppress(FileNotFoundError):
        found, known = files.log_file.stat().st_ino, open_files.get(files)
        if known is not None and _inode(known) == found:
            return
        open_files[files] = stack.enter_context(files.log_file.open(errors="replace"))
        open_files[files].seek(start)


def _inode(file: TextIO) -> int:
    return os.fstat(file.fileno()).st_ino
