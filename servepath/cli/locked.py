"""A file that one process at a time holds; the kernel lets go of it when that one ends, however it does."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


class Held(Exception):
    """Another process holds the file."""


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold `file`, which is made with its folder, within the `with` statement. Raises Held."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(str(file)) from None
        yield
