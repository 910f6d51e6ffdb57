"""The models that are served: which versions of each are loaded, and which one is current."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from servepath.artifacts.manifest import AGAIN, ArtifactError, current_version
from servepath.protocols import oip
from servepath.protocols.errors import ModelNotFound, ServeError
from servepath.protocols.names import invalid_name_error
from servepath.protocols.stacks import Stack
from services.dataplane.backend import Call
from services.dataplane.engine import EngineError
from services.oip_server.artifact import Version
from services.oip_server.service import OipService

log = logging.getLogger(__name__)
# From an artifact's folder. Raises ArtifactError or EngineError.
VersionFactory = Callable[[Path], Version]


class Model:
    """One model. Its versions are replaced and never changed, so that the metrics' thread may read them too.

    name: what callers ask for, with the path's precision where that is a reduced one. folder: of its versions.
    """

    def __init__(self, name: str, folder: Path, versions: Mapping[int, Version], current: int) -> None:
        self.name = name
        self.folder = folder
        self.versions = versions
        self.current = current

    def find(self, version: int) -> Version:
        """Return a version; 0 is the current one. Raises ModelNotFound."""
        found = self.versions.get(version or self.current)
        if found is None and not self.versions:
            raise ModelNotFound(f"{self.name} was unloaded by a call", retry_after_ms=0)  # another replica may have it
        if found is None:
            text = f"{self.name} has no version {version or self.current}; loaded are {sorted(self.versions)}"
            raise ModelNotFound(text, retry_after_ms=0)  # another replica may have loaded it
        return found

    @property
    def serves(self) -> bool:
        """Return whether its current version is loaded."""
        return self.current in self.versions

    def ready(self) -> bool:
        """Return whether its current version is ready, or it was unloaded by a call and nothing is missing."""
        return not self.versions or (self.serves and self.find(0).chain.ready())

    def unload(self) -> None:
        """Drop every version; their last calls still end."""
        self.versions = {}

    def add(self, version: Version) -> None:
        """Add a version to those that are there."""
        self.versions = {**self.versions, version.artifact.version: version}

    def adopt(self, version: Version, on_disk: frozenset[int]) -> None:
        """Make a version the current one, and drop those that are no longer on disk; their last calls still end."""
        number = version.artifact.version
        self.versions = {n: v for n, v in self.versions.items() if n in on_disk} | {number: version}
        self.current = number


class Models:
    """The first backend: takes each call to the version that it names.

    Callers may write MODEL, MODEL@STACK or MODEL@STACK:PRECISION. changing: held by what replaces a model's versions.
    """

    def __init__(self, models: Mapping[str, Model], stack: str) -> None:
        self.changing = asyncio.Lock()
        self.models = MappingProxyType(dict(models))
        self._by_name = {**models, **{f"{name}@{stack}": model for name, model in models.items() if "@" not in name}}

    @property
    def names(self) -> Iterable[str]:
        """Return every name that callers may use."""
        return self._by_name

    def named(self, name: str) -> Model:
        """Return a model. Raises BadInput for an invalid name, ModelNotFound."""
        model = self._by_name.get(name)
        if model is None:
            raise invalid_name_error(name, retry_after_ms=0)  # another replica may have it
        return model

    def find(self, name: str, version: int) -> tuple[Model, Version]:
        """Return a model and one of its versions. Raises BadInput for an invalid name, ModelNotFound."""
        model = self.named(name)
        return model, model.find(version)

    def name_of(self, name: str) -> str | None:
        """Return the model that a caller's name means, or None."""
        model = self._by_name.get(name)
        return None if model is None else model.name

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such version."""
        request = call.request
        try:
            # Labels are the gateway's: here one is no version.
            number = oip.parse_version(request.version_label) or request.version
            _, version = self.find(request.model, number)
        except ServeError as error:
            call.end(error)
        else:
            version.chain.submit(call)

    def ready(self) -> bool:
        """Return whether every model is ready."""
        return all(model.ready() for model in self.models.values())

    async def close(self) -> None:
        """Close every version."""
        for model in self.models.values():
            for version in model.versions.values():
                await version.chain.close()


def load_models(exports: Path, service: OipService, make_version: VersionFactory) -> dict[str, Model]:
    """Load every model under `exports` that has the service's format, and what there is of it in reduced precisions.

    Raises ArtifactError or EngineError when there is none, or when one's current version cannot be served; any other
    version that cannot is logged and left out, and so is a model in a reduced precision.
    """
    stack, *reduced = service.stacks.values()
    found = {name: _load_model(exports, name, stack, make_version) for name in _having(exports, stack)}
    if not found:
        raise ArtifactError(
            f"{exports} holds no {service.kind} artifact; {AGAIN}, or choose another folder with --models"
        )
    for other in reduced:
        for name in _having(exports, other):
            try:
                found[other.name_of(name)] = _load_model(exports, name, other, make_version)
            except (ArtifactError, EngineError) as error:
                log.error("%s is not served before another start: %s", other.name_of(name), error)  # noqa: TRY400 - all is said
    return found


def versions_on_disk(folder: Path) -> frozenset[int]:
    """Return the numbers of the version folders in a model's folder of a format; none where that is gone."""
    try:
        return frozenset(int(f.name) for f in folder.iterdir() if f.name.isdecimal())
    except FileNotFoundError:
        return frozenset()


def _having(exports: Path, stack: Stack) -> list[str]:
    """Return the names of the models that have a stack's format."""
    return sorted(folder.parent.name for folder in exports.glob(f"*/{stack.artifact_format}") if folder.is_dir())


def _load_model(exports: Path, model: str, stack: Stack, make_version: VersionFactory) -> Model:
    name, current = stack.name_of(model), current_version(exports, model)
    folder = exports / model / stack.artifact_format
    versions = {current: make_version(folder / str(current))}
    for number in sorted(versions_on_disk(folder) - {current}):
        try:
            versions[number] = make_version(folder / str(number))
        except (ArtifactError, EngineError) as error:
            log.error("%s version %d is not served: %s", name, number, error)  # noqa: TRY400 - the text says it all
    for number, version in sorted(versions.items()):
        served = version.artifact.served
        mark = ", current" if number == current else ""
        log.info("%s version %d on %s %s%s", name, number, served.engine, served.engine_version, mark)
    return Model(name, folder, versions, current)
