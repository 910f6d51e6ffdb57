"""Picks up new current versions while running; one that cannot be served is refused and the old one serves on."""

import asyncio
import logging

from servepath.artifacts.manifest import ArtifactError, current_version
from services.dataplane.engine import EngineError
from services.oip_server.artifact import Version
from services.oip_server.models import Model, Models, VersionFactory, versions_on_disk

log = logging.getLogger(__name__)


class Watcher:
    """Looks at each model's `current` file. Which models there are is settled at the start."""

    def __init__(self, models: Models, make_version: VersionFactory) -> None:
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
        try:
            # On a thread: hashing and loading a large model takes seconds, and calls go on meanwhile.
            version = await asyncio.to_thread(self._new_version, model)
        except (ArtifactError, EngineError, OSError) as error:
            if self._said.get(model.name) != str(error):
                self._said[model.name] = str(error)
                log.error("%s stays at version %d: %s", model.name, model.current, error)  # noqa: TRY400 - says it all
            return
        if version is not None and model.versions:
            log.info("%s: version %d replaces version %d", model.name, version.artifact.version, model.current)
            on_disk = await asyncio.to_thread(versions_on_disk, model.folder)
            model.adopt(version, on_disk)

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
