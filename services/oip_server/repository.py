"""The model repository of the Open Inference Protocol: which versions are loaded, loading the others, unloading.

A load looks at the exports folder as a start does: what is there and not loaded is verified, loaded and proven. What is
served stays served. An unloaded model is back with the next load, or the next start. A load that has begun goes on when
its caller stops waiting, and until it ends no other call changes the same model.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import grpc

from servepath.artifacts.manifest import ArtifactError, current_version
from servepath.protocols import oip, oip_repository
from servepath.protocols.errors import ModelLoading, Unsupported
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.dataplane import control
from services.dataplane.engine import EngineError
from services.oip_server.models import Model, Models, VersionFactory, versions_on_disk

log = logging.getLogger(__name__)
T = TypeVar("T")


class Repository:
    """Answers the calls of the repository.

    why_off: why callers may load and unload nothing, "" where they may. on_change: called where a model has been.
    """

    def __init__(
        self,
        models: Models,
        make_version: VersionFactory,
        why_off: str,
        on_change: Callable[[Model], Awaitable[None]],
    ) -> None:
        self._on_change = on_change
        self._models = models
        self._make_version = make_version
        self._why_off = why_off
        # By model, what a call has begun.
        self._under_way: dict[str, asyncio.Task[Any]] = {}

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers to register on a server."""
        return control.handlers(
            oip.SERVICE,
            {
                "RepositoryIndex": (pb.RepositoryIndexRequest, self.index),
                "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self.load),
                "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self.unload),
            },
        )

    async def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """List the versions of every model. Raises Unsupported for another repository."""
        oip_repository.check_call(request.repository_name)
        found = await asyncio.to_thread(lambda: list(self._entries()))
        return pb.RepositoryIndexResponse(
            models=[entry for entry in found if not request.ready or entry.state == oip_repository.READY]
        )

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load the versions of a model that are not loaded, and serve the current one.

        Raises BadInput, ModelNotFound or Unsupported; ModelLoading where one cannot be loaded, when the others are, and
        where another call is changing the model.
        """
        model = self._named(request)
        refused = await self._to_the_end(model, self._load)
        if refused:
            raise ModelLoading(f"{model.name}: {', '.join(refused)} cannot be loaded; the server's log says why")
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Drop every version of a model; calls under way are answered. Raises as `load` does."""
        await self._to_the_end(self._named(request), self._unload)
        return pb.RepositoryModelUnloadResponse()

    async def close(self) -> None:
        """Cancel what is under way."""
        if tasks := list(self._under_way.values()):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _to_the_end(self, model: Model, change: Callable[[Model], Coroutine[Any, Any, T]]) -> T:
        """Change a model in a task of its own: a caller that goes away would leave it changed by half."""
        if model.name in self._under_way:
            text = f"{model.name} is being loaded or unloaded by another call; try again later"
            raise ModelLoading(text, reason=oip_repository.CHANGING)
        task = self._under_way[model.name] = asyncio.create_task(self._changed(model, change))
        task.add_done_callback(lambda _: self._under_way.pop(model.name))
        return await asyncio.shield(task)

    async def _changed(self, model: Model, change: Callable[[Model], Coroutine[Any, Any, T]]) -> T:
        async with self._models.changing:
            try:
                return await change(model)
            finally:
                await self._on_change(model)

    def _named(self, request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> Model:
        oip_repository.check_call(request.repository_name, request.parameters)
        if self._why_off:
            raise Unsupported(self._why_off)
        return self._models.named(request.model_name)

    def _entries(self) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
        for model in self._models.models.values():
            loaded = model.versions
            missing = "exported and not loaded" if loaded else "unloaded by a call"
            for number in sorted(loaded.keys() | versions_on_disk(model.folder)):
                state, reason = (
                    (oip_repository.READY, "") if number in loaded else (oip_repository.UNAVAILABLE, missing)
                )
                yield pb.RepositoryIndexResponse.ModelIndex(
                    name=model.name, version=str(number), state=state, reason=reason
                )

    async def _load(self, model: Model) -> list[str]:
        """Load what is there and not loaded; return what cannot be, as words."""
        try:
            on_disk = await asyncio.to_thread(versions_on_disk, model.folder)
            current = await asyncio.to_thread(current_version, model.folder.parents[1], model.folder.parent.name)
        except (ArtifactError, OSError) as error:
            log.error("%s: its versions cannot be read: %s", model.name, error)  # noqa: TRY400 - says it all
            return ["its current version"]
        refused = []
        for number in sorted((on_disk | {current}) - model.versions.keys(), key=lambda one: (one != current, one)):
            try:
                model.add(await asyncio.to_thread(self._make_version, model.folder / str(number)))
            except (ArtifactError, EngineError, OSError) as error:
                log.error("%s version %d is not loaded: %s", model.name, number, error)  # noqa: TRY400 - says it all
                refused.append(f"version {number}")
            else:
                log.info("%s: version %d is loaded, as a call asked", model.name, number)
        if current != model.current and current in model.versions:
            model.adopt(model.versions[current], on_disk)
        return refused

    async def _unload(self, model: Model) -> None:
        model.unload()
        log.info("%s is unloaded, as a call asked", model.name)
