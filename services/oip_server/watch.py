"""Picks up new current versions while running; one that cannot be served is refused and the old one serves on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import NamedTuple

from servepath.artifacts.manifest import ArtifactError, Snapshot, current_version, snapshot
from servepath.artifacts.reference import FORMAT as REFERENCE
from services.dataplane.engine import EngineError
from services.oip_server.artifact import Version
from services.oip_server.models import Model, Models, VersionFactory, versions_on_disk

log = logging.getLogger(__name__)
# Before a version is tried again whose files are as they were, doubled each time: loading and proving it takes memory
# and time that calls need. Files that do not fit their manifest are not read again until they change.
FIRST_PAUSE_S, MAX_PAUSE_S = 30.0, 3600.0


class _Failure(NamedTuple):
    """A version that could not be served, and its files as they were; when it is tried again, and after which pause."""

    version: int
    seen: Snapshot
    again_at: float
    pause_s: float


class Watcher:
    """Looks at each model's `current` file. Which models there are is settled at the start.

    on_change: called where a model has been.
    """

    def __init__(
        self,
        models: Models,
        make_version: VersionFactory,
        on_change: Callable[[Model], Awaitable[None]],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._on_change = on_change
        self._models = models
        self._make_version = make_version
        self._clock = clock
        # By model, the last one since a version was adopted.
        self._failures: dict[str, _Failure] = {}
        self._said: dict[str, str] = {}

    async def run(self, interval_s: float) -> None:
        """Check every `interval_s` seconds until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            for model in self._models.models.values():
                try:
                    await self.look(model)
                except Exception:
                    log.exception("looking for a new version of %s failed", model.name)

    async def look(self, model: Model) -> None:
        """Adopt the model's current version if it is new; log once, in one line, when it cannot be served."""
        async with self._models.changing:  # a call may unload the model meanwhile
            await self._look(model)

    async def _look(self, model: Model) -> None:
        try:
            # On a thread: hashing and loading a large model takes seconds, and calls go on meanwhile.
            version = await asyncio.to_thread(self._new_version, model)
        except (ArtifactError, EngineError, OSError) as error:
            if self._said.get(model.name) != str(error):
                self._said[model.name] = str(error)
                now = f"stays at version {model.current}" if model.serves else "has no current version"
                log.error("%s %s: %s", model.name, now, error)  # noqa: TRY400 - says it all
            return
        if version is not None:
            log.info("%s: version %d is the current one", model.name, version.artifact.version)
            on_disk = await asyncio.to_thread(versions_on_disk, model.folder)
            model.adopt(version, on_disk)
            self._failures.pop(model.name, None)
            self._said.pop(model.name, None)
            await self._on_change(model)

    def _new_version(self, model: Model) -> Version | None:
        if not model.versions:
            return None  # unloaded by a call, until another one loads it
        number = current_version(model.folder.parents[1], model.folder.parent.name)
        if number == model.current and model.serves:
            return None
        if number in model.versions:
            return model.versions[number]
        folder = model.folder / str(number)
        # Before they are read: what comes meanwhile must be another state than the one that failed.
        seen = snapshot(folder) | snapshot(model.folder.parent / REFERENCE / str(number))
        last = self._failures.get(model.name)
        if last is None or (last.version, last.seen) != (number, seen):
            pause_s = FIRST_PAUSE_S
        elif self._clock() < last.again_at:
            return None
        else:
            pause_s = min(2 * last.pause_s, MAX_PAUSE_S)
        try:
            return self._make_version(folder)
        except Exception as error:
            # What cannot be read or computed now may be later, unchanged.
            final = isinstance(error, ArtifactError) and not isinstance(error.__cause__, OSError)
            self._failures[model.name] = _Failure(number, seen, inf if final else self._clock() + pause_s, pause_s)
            raise
