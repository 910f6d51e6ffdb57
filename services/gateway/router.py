"""Names to backends: which model a caller means, and which path of it."""

from collections.abc import Mapping

from servepath.protocols.errors import ModelNotFound
from servepath.protocols.names import invalid_name_error
from services.dataplane.backend import Backend, Call
from services.gateway.artifacts import Artifacts, ExternalArtifacts


class ModelRouter:
    """Takes every call to the chain of the model that it names."""

    def __init__(self, models: Mapping[str, Backend]) -> None:
        """`models`: every name that callers may use -> its model's chain."""
        self._models = models

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such model."""
        model = self._models.get(call.request.model)
        if model is None:
            call.end(invalid_name_error(call.request.model))
        else:
            model.submit(call)

    def ready(self) -> bool:
        """Return whether every model is ready."""
        return all(model.ready() for model in self._models.values())

    async def close(self) -> None:
        """Close every model's chain."""
        for model in set(self._models.values()):
            await model.close()


class VersionRouter:
    """Takes a model's call to one of its paths."""

    def __init__(self, paths: Mapping[str, Backend], artifacts: Mapping[str, Artifacts | ExternalArtifacts]) -> None:
        """`paths`, `artifacts`: every name of this model that callers may use -> that path's."""
        self._paths = paths
        self._artifacts = artifacts

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such version."""
        name, version = call.request.model, call.request.version
        if version and self._artifacts[name].find(version) is None:
            call.end(ModelNotFound(f"{name} has no version {version}"))
        else:
            self._paths[name].submit(call)

    def ready(self) -> bool:
        """Return whether every path is ready."""
        return all(path.ready() for path in self._paths.values())

    async def close(self) -> None:
        """Close every path."""
        for path in set(self._paths.values()):
            await path.close()
