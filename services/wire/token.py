"""TorchServe's inference key as call metadata, read from the file that torch_svc keeps fresh.

The file holds the key alone, so `grpcurl -H "authorization: Bearer $(cat .run/torch_svc/token)"` works too.
"""

import time
from collections.abc import Callable
from pathlib import Path

FILE_VARIABLE = "TORCH_SVC_TOKEN_FILE"
DEFAULT_FILE = Path(".run/torch_svc/token")
CHECK_S = 0.5
# Before each new try of a call that is refused for its key: TorchServe drops its old key a moment before the new one
# can be in the file, 4-14 ms, twice an hour.
RENEWAL_PAUSES_S = (0.0, 0.01, 0.02, 0.04)

Metadata = tuple[tuple[str, str], ...]


class TokenFile:
    """The current key. Renewals are noticed by themselves; `reload` after PERMISSION_DENIED notices one at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._metadata: Metadata = ()
        self._check_at = 0.0

    def metadata(self) -> Metadata:
        """Give (("authorization", "Bearer KEY"),), or () while there is no file; looks at it every 0.5 s at most."""
        now = self._clock()
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            self._look()
        return self._metadata

    def reload(self) -> Metadata:
        """Read the file now and give what `metadata` gives.

        A renewal kills the old key up to 15 ms before the new one is in the file: try a few times, some ms apart.
        """
        self._stamp = None
        self._look()
        return self._metadata

    def _look(self) -> None:
        try:
            state = self._path.stat()
            if self._stamp != (stamp := (state.st_ino, state.st_mtime_ns)):
                self._metadata = _bearer(self._path.read_text(encoding="ascii").strip())
                self._stamp = stamp
        except (OSError, UnicodeError):
            self._stamp, self._metadata = None, ()


def _bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),) if key and key.isprintable() else ()
