"""A small text file that another process replaces now and then."""

import time
from collections.abc import Callable
from pathlib import Path

CHECK_S = 0.5


class WatchedText:
    """The file's text without the white space around it; "" while there is no file. Looked at every 0.5 s at most."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._text = ""
        self._check_at = 0.0

    def text(self) -> str:
        """Return the text."""
        now = self._clock()
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            self._look()
        return self._text

    def reload(self) -> str:
        """Read the file now and return the text."""
        self._stamp = None
        self._look()
        return self._text

    def _look(self) -> None:
        try:
            state = self._path.stat()
            if self._stamp != (stamp := (state.st_ino, state.st_mtime_ns)):
                self._text = self._path.read_text(encoding="ascii").strip()
                self._stamp = stamp
        except (OSError, UnicodeError):
            self._stamp, self._text = None, ""
