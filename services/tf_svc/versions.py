"""The versions of each model: found on disk, loaded, swapped and unloaded while calls go on.

TensorFlow Serving's rules: whatever has a number for a name is a version, and the largest is served (policy latest 1);
a new version is loaded whole before the old one goes; one that does not load is refused for good, under its number, and
the old one serves on; files changed in place are not noticed.
"""

import logging
import weakref
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from grpc import StatusCode

from services.tf_svc.refusal import LoadError
from services.tf_svc.servable import Load, Servable

log = logging.getLogger(__name__)

# Past versions that GetModelStatus still tells of.
REMEMBERED = 16


class State(IntEnum):
    """tensorflow.serving.ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Status(NamedTuple):
    """The state of one version; code and text say why it ended, where it did not end well."""

    state: State
    code: StatusCode = StatusCode.OK
    text: str = ""


class Found(NamedTuple):
    """A version on disk."""

    version: int
    folder: Path


def newest(base: Path) -> Found | None:
    """Return the version with the largest number, `007` too, be it a folder or a file. Raises OSError."""
    found = [Found(int(path.name), path) for path in base.iterdir() if path.name.isascii() and path.name.isdecimal()]
    return max(found, default=None)


class Versions:
    """The versions of one model. `poll` runs on one thread; the rest may be read on any."""

    def __init__(self, name: str, base: Path, load: Load) -> None:
        self._name = name
        self._base = base
        self._load = load
        self._refused: set[int] = set()
        self._unreadable = False
        self._statuses: dict[int, Status] = {}
        self.servable: Servable | None = None

    @property
    def statuses(self) -> Mapping[int, Status]:
        """Return the state of every version seen, by number."""
        return MappingProxyType(dict(sorted(self._statuses.copy().items())))

    def due(self) -> Found | None:
        """Return the version to load, if there is a new one; unload the old one when there is none left at all."""
        try:
            found = newest(self._base)
        except OSError:
            self._warn_once()
            return None
        self._unreadable = False
        serving = self.servable
        if found is None:
            if serving:
                self._swap(None)
            return None
        if found.version in self._refused or (serving and serving.version == found.version):
            return None
        self._statuses[found.version] = Status(State.START)
        return found

    def take(self, found: Found) -> None:
        """Load a version and serve it. Raises LoadError; then the old one serves on."""
        self._statuses[found.version] = Status(State.LOADING)
        try:
            servable = self._load(self._name, found.version, found.folder)
        except LoadError as error:
            self._refused.add(found.version)
            text = "the version does not load; the server's log says why"
            self._statuses[found.version] = Status(State.END, error.code, text)
            raise
        self._swap(servable)

    def poll(self) -> None:
        """Poll the disk once and follow it; a version that does not load is logged once, in one line."""
        found = self.due()
        if found is None:
            return
        try:
            self.take(found)
        except LoadError as error:
            still = f"version {self.servable.version} serves on" if self.servable else "nothing is served"
            log.error("%s: version %d refused, %s: %s", self._name, found.version, still, error)  # noqa: TRY400 - one line

    def _swap(self, servable: Servable | None) -> None:
        previous, self.servable = self.servable, servable
        if servable:
            self._statuses[servable.version] = Status(State.AVAILABLE)
            log.info("%s: version %d available", self._name, servable.version)
        if previous:
            self._statuses[previous.version] = Status(State.UNLOADING)
            # Calls in flight hold the old version; it has ended when the last of them has.
            weakref.finalize(previous, self._ended, previous.version)
        self._forget()

    def _ended(self, version: int) -> None:
        # The number may serve again meanwhile, from another load.
        if self._statuses.get(version) == Status(State.UNLOADING):
            self._statuses[version] = Status(State.END)
        log.info("%s: version %d unloaded", self._name, version)

    def _forget(self) -> None:
        over = [version for version, status in sorted(self._statuses.items()) if status.state is State.END]
        for version in over[:-REMEMBERED]:
            del self._statuses[version]

    def _warn_once(self) -> None:
        if not self._unreadable:
            log.warning("%s: its base path cannot be read; loaded versions stay in service", self._name)
        self._unreadable = True
