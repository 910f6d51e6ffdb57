"""The key that a server demands, as call metadata, read from the file that its service keeps fresh."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from servepath.protocols.stacks import Stack
from servepath.protocols.watched import WatchedText

# Before each new try of a call that is refused for its key: TorchServe drops its old key a moment before the new one
# can be in the file, 4-14 ms, twice an hour.
RENEWAL_PAUSES_S = (0.0, 0.01, 0.02, 0.04)

Metadata = tuple[tuple[str, str], ...]


class Credentials(Protocol):
    """What a server wants to see before it answers."""

    def metadata(self) -> Metadata:
        """Return the metadata of a call."""

    def reload(self) -> Metadata:
        """Reload the credentials, since the server refused them, and return the metadata."""


class NoCredentials:
    """For servers that ask for none."""

    def metadata(self) -> Metadata:
        """Return no metadata."""
        return ()

    def reload(self) -> Metadata:
        """Return no metadata."""
        return ()


class TokenFile:
    """The current key. Renewals are noticed by themselves; `reload` after PERMISSION_DENIED notices one at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = WatchedText(path, clock)
        # Key and metadata change together: several threads may ask.
        self._known: tuple[str, Metadata] = ("", ())

    def metadata(self) -> Metadata:
        """Return (("authorization", "Bearer KEY"),), or () while there is no file; looks at it every 0.5 s at most."""
        return self._of(self._file.text())

    def reload(self) -> Metadata:
        """Read the file now and return what `metadata` returns.

        A renewal kills the old key up to 15 ms before the new one is in the file: try a few times, some ms apart.
        """
        return self._of(self._file.reload())

    def _of(self, key: str) -> Metadata:
        known, metadata = self._known
        if key != known:
            metadata = _bearer(key)
            self._known = (key, metadata)
        return metadata


def credentials_of(stack: Stack, files: Mapping[str, Path]) -> Credentials:
    """Return what a stack's server wants to see. files: those of service_files()."""
    return TokenFile(files[stack.credentials.variable]) if stack.credentials else NoCredentials()


def _bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),) if key and key.isprintable() else ()
