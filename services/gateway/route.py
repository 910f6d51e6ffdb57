"""Names to backends: which model a caller means, and which path of it."""

from collections.abc import Mapping

from services.gateway.artefacts import Artefacts
from services.serving.backend import Backend, Call
from services.wire.errors import ModelUnknown
from services.wire.names import refusal


class Directory:
    """Takes every call to the chain of the model that it names."""

    def __init__(self, models: Mapping[str, Backend]) -> None:
        """`models`: every name that callers may use -> its model's chain."""
        self._models = models

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such model."""
        model = self._models.get(call.request.model)
        if model is None:
            call.end(refusal(call.request.model))
        else:
            model.submit(call)

    def ready(self) -> bool:
        """Say whether every model is ready."""
        return all(model.ready() for model in self._models.values())

    async def close(self) -> None:
        """Close every model's chain."""
        for model in set(self._models.values()):
            await model.close()


class Route:
    """Takes a model's call to one of its paths."""

    def __init__(self, paths: Mapping[str, Backend], artefacts: Mapping[str, Artefacts]) -> None:
        """`paths`, `artefacts`: every name of this model that callers may use -> that path's."""
        self._paths = paths
        self._artefacts = artefacts

    def submit(self, call: Call) -> None:
        """Pass the call on, or end it because there is no such version."""
        name, version = call.request.model, call.request.version
        if version and self._artefacts[name].find(version) is None:
            call.end(ModelUnknown(f"{name} has no version {version}"))
        else:
            self._paths[name].submit(call)

    def ready(self) -> bool:
        """Say whether every path is ready."""
        return all(path.ready() for path in self._paths.values())

    async def close(self) -> None:
        """Close every path."""
        for path in set(self._paths.values()):
            await path.close()
