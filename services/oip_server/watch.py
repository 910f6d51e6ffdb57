"""Picks up new current versions while running; one that cannot be served is refused and the old one serves on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from servepath.artifacts.manifest import ArtifactError, current_version
from services.dataplane.engine import EngineError
from services.oip_server.artifact import Version
from services.oip_server.models import Model, Models, VersionFactory, versions_on_disk

log = logging.getLogger(__name__)


class Watcher:
    """Looks at each model's `current` file. Which models there are is settled at the start.

    on_change: called where a model has been.
    """

    def __init__(
        self, models: Models, make_version: VersionFactory, on_change: Callable[[Model], Awaitable[None]]
    ) -> None:
        self._on_change = on_change
        self._models = models
        self._make_version = make_version
        # Model -> the version tried last and its folder's inode; a folder regenerated is tried again.
        self._tried: dict[str, tuple[int, int]] = {}
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
                log.error("%s stays at version %d: %s", model.name, model.current, error)  # noqa: TRY400 - says it all
            return
        if version is not None:
            log.info("%s: version %d replaces version %d", model.name, version.artifact.version, model.current)
            on_disk = await asyncio.to_thread(versions_on_disk, model.folder)
            model.adopt(version, on_disk)
            await self._on_change(model)

    def _new_version(self, model: Model) -> Version | None:
        if not model.versions:
            return None  # unloaded by a call, until another one loads it
        number = current_version(model.folder.parents[1], model.folder.parent.name)
        if number == model.current:
            return None
        if number in model.versions:
            return model.versions[number]
        folder = model.folder / str(number)
        attempt = (number, folder.stat().st_ino)
        if self._tried.get(model.name) == attempt:
            return None
        self._tried[model.name] = attempt
        return self._make_version(folder)
