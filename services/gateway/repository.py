"""The model repository of the Open Inference Protocol, of all paths: their state, and loads where a stack can.

Loads and unloads are passed on to every server of the path. They change no route: deployments.toml says what there is.
"""

import asyncio
from collections.abc import Iterator
from time import monotonic

import grpc
from grpc import StatusCode

from servepath.http2.drivers.asyncio_channel import UnaryChannel
from servepath.http2.replies import Reply
from servepath.protocols import oip, oip_repository
from servepath.protocols.errors import DeadlineExceeded, DeadlineStage, ModelLoading, ServeError, Unsupported
from servepath.protocols.names import invalid_name_error
from servepath.protocols.status import reason_of
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.dataplane import control
from services.dataplane.listener import ListenerLimits
from services.dataplane.options import OFF
from services.gateway.reload import Reloader
from services.gateway.routes import Path

MAX_BYTES = 64 * 2**10


class Repository:
    """Answers the calls of the repository from the routes in use. limits: of deadlines. model_loading: as Settings."""

    def __init__(self, reloader: Reloader, limits: ListenerLimits, model_loading: str) -> None:
        self._reloader = reloader
        self._limits = limits
        self._off = model_loading == OFF

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return the handlers to register on a server."""
        index = {"RepositoryIndex": (pb.RepositoryIndexRequest, self.index)}
        others: dict[str, tuple[control.Message, control.TimedRpc]] = {
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self.unload),
        }
        return control.handlers(oip.SERVICE, index), control.timed_handlers(oip.SERVICE, others)

    async def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """List every name that callers may use. Raises Unsupported for another repository."""
        oip_repository.check_call(request.repository_name)
        return pb.RepositoryIndexResponse(
            models=[entry for entry in self._entries() if not request.ready or entry.state == oip_repository.READY]
        )

    async def load(
        self, request: pb.RepositoryModelLoadRequest, remaining_s: float | None
    ) -> pb.RepositoryModelLoadResponse:
        """Load what is exported on every server of a path. Raises Unsupported where that is off, or none can."""
        path = self._changed(request, "loads")
        message = pb.RepositoryModelLoadRequest(model_name=path.server.name_of(path.model))
        await self._pass_on(path, oip_repository.LOAD, message.SerializeToString(), remaining_s)
        return pb.RepositoryModelLoadResponse()

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest, remaining_s: float | None
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload a model on every server of a path. Raises Unsupported where that is off, or none can."""
        path = self._changed(request, "unloads")
        message = pb.RepositoryModelUnloadRequest(model_name=path.server.name_of(path.model))
        await self._pass_on(path, oip_repository.UNLOAD, message.SerializeToString(), remaining_s)
        return pb.RepositoryModelUnloadResponse()

    def _changed(self, request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest, what: str) -> Path:
        """Return the path whose servers are to be asked. Raises BadInput, ModelNotFound or Unsupported."""
        oip_repository.check_call(request.repository_name, request.parameters)
        path = self._reloader.routes.names.get(request.model_name)
        if path is None:
            raise invalid_name_error(request.model_name)
        if self._off:
            raise Unsupported("loading models by a call is off: start the gateway with --model-loading on")
        if path.server.why_no_loading:
            raise Unsupported(f"{path.stack} {what} no model by a call: {path.server.why_no_loading}")
        return path

    async def _pass_on(self, path: Path, method: str, message: bytes, remaining_s: float | None) -> None:
        """Send a call to every server of a path, and wait for all. Raises the error of the first that has one."""
        deadline = self._limits.deadline(remaining_s)
        addresses = path.origin.addresses
        errors = await asyncio.gather(*(_ask(path, address, method, message, deadline) for address in addresses))
        if error := next((error for error in errors if error), None):
            raise error

    def _entries(self) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
        routes = self._reloader.routes
        for name, path in routes.names.items():
            ready = routes.chains[name].ready()
            yield pb.RepositoryIndexResponse.ModelIndex(
                name=name,
                version=str(path.replicas.served.version or ""),
                state=oip_repository.READY if ready else oip_repository.UNAVAILABLE,
                reason="" if ready else path.replicas.fault or "a path that gets its calls is not ready",
            )


async def _ask(path: Path, address: str, method: str, message: bytes, deadline: float) -> ServeError | None:
    """Send a call to one server; return why it has not done it, None where it has."""
    replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def done(reply: Reply) -> None:
        if not replied.done():  # in the loop's turn in which the caller went away
            replied.set_result(reply)

    channel = UnaryChannel(address, method, MAX_BYTES)
    cancel = channel.call(message, deadline, (), done)
    try:
        async with asyncio.timeout(deadline - monotonic()):
            reply = await replied
    except TimeoutError:
        return DeadlineExceeded(DeadlineStage.IN_BACKEND)
    finally:
        cancel()
        await channel.close()
    if reply.code is StatusCode.OK:
        return None
    if reply.code is StatusCode.UNIMPLEMENTED:
        text = f"a server of {path.name} changes no model by a call: start it with --model-loading on, as one process"
        return Unsupported(text)
    reason = reason_of(reply.trailing)
    if reason == oip_repository.CHANGING:
        text = f"a server of {path.name} is loading or unloading the model for another call; try again later"
        return ModelLoading(text, reason=reason)
    if reason == ModelLoading.reason:
        return ModelLoading(f"a server of {path.name} cannot load what is exported; its log says why")
    return oip.translate(reply.code, reply.details)
