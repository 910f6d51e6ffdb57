"""TorchServe's inference key as call metadata, read from the file that torch_svc keeps fresh.

The file holds the key alone, so `grpcurl -H "authorization: Bearer $(cat .run/torch_svc/token)"` works too.
"""

import time
from collections.abc import Callable
from pathlib import Path

from servepath.protocols.watched import WatchedText

FILE_VARIABLE = "TORCH_SVC_TOKEN_FILE"
DEFAULT_FILE = Path(".run/torch_svc/token")
# Before each new try of a call that is refused for its key: TorchServe drops its old key a moment before the new one
# can be in the file, 4-14 ms, twice an hour.
RENEWAL_PAUSES_S = (0.0, 0.01, 0.02, 0.04)

Metadata = tuple[tuple[str, str], ...]


class TokenFile:
    """The current key. Renewals are noticed by themselves; `reload` after PERMISSION_DENIED notices one at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = WatchedText(path, clock)
        self._key = ""
        self._metadata: Metadata = ()

    def metadata(self) -> Metadata:
        """Return (("authorization", "Bearer KEY"),), or () while there is no file; looks at it every 0.5 s at most."""
        return self._of(self._file.text())

    def reload(self) -> Metadata:
        """Read the file now and return what `metadata` returns.

        A renewal kills the old key up to 15 ms before the new one is in the file: try a few times, some ms apart.
        """
        return self._of(self._file.reload())

    def _of(self, key: str) -> Metadata:
        if key != self._key:
            self._key, self._metadata = key, _bearer(key)
        return self._metadata


def _bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),) if key and key.isprintable() else ()
