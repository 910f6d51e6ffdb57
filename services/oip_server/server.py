"""The server put together: the one place where its objects are built."""

import asyncio
import threading
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from servepath.protocols import oip
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import BatchLimits
from services.dataplane.data_plane import DataPlane
from services.dataplane.engine import Load
from services.dataplane.health import end_entries, set_entries
from services.dataplane.listener import ListenerLimits
from services.dataplane.listeners import LISTENERS
from services.dataplane.metrics_server import MetricsServer, process_registry, serve_metrics
from services.dataplane.options import OFF
from services.oip_server.artifact import Version, load
from services.oip_server.config import Settings
from services.oip_server.control import Controls
from services.oip_server.metrics import Metrics
from services.oip_server.models import Model, Models, VersionFactory, load_models
from services.oip_server.repository import Repository
from services.oip_server.service import OipService
from services.oip_server.threads import EngineThreads
from services.oip_server.watch import Watcher

# How long the connections get, after the last call has been answered, to carry that answer.
CLOSE_GRACE_S = 3.0
# A whole list of calls from the listener becomes one run.
MAX_MERGE_ROWS = 256


class OipServer:
    """A started server; `drain` and `close` end it. port, metrics_port: where it listens."""

    def __init__(
        self, service: OipService, settings: Settings, models: Models, make_version: VersionFactory, batch: BatchScope
    ) -> None:
        registry = process_registry()
        self._service = service
        self._settings = settings
        self._models = models
        self._watcher = Watcher(models, make_version, self._say_health)
        self._repository = Repository(models, make_version, _why_no_loading(settings), self._say_health)
        self._registry = registry
        metrics = Metrics(service.name, registry, models)
        self._data_plane = DataPlane(models, {oip.METHOD: oip}, metrics.on_complete, batch)
        self._health = health.aio.HealthServicer()
        self._listener = LISTENERS[settings.front](
            f"{settings.host}:{settings.port}",
            (oip.METHOD,),
            self._data_plane.dispatch,
            (self._add_controls,),
            ListenerLimits(
                settings.max_message_bytes,
                settings.default_deadline_s,
                settings.max_deadline_s,
                share_port=settings.worker_of is not None,
            ),
        )
        self._metrics_server: MetricsServer | None = None
        self._watching: asyncio.Task[None] | None = None
        self.port = 0
        self.metrics_port = 0

    @property
    def in_flight(self) -> int:
        """Return the number of calls that have not ended."""
        return self._data_plane.in_flight

    async def start(self) -> None:
        """Listen. Raises PortBusyError."""
        self._metrics_server = serve_metrics(self._registry, self._settings.metrics_host, self._settings.metrics_port)
        self.metrics_port = self._metrics_server.port
        # Every model has answered when it was loaded.
        serving = health_pb2.HealthCheckResponse.SERVING
        await set_entries(self._health, dict.fromkeys(("", *self._models.names), serving))
        self.port = await self._listener.start()
        self._watching = asyncio.create_task(self._watcher.run(self._settings.watch_s))

    async def drain(self) -> None:
        """Report NOT_SERVING, refuse new calls and wait for those in flight, at most `drain_s`."""
        await end_entries(self._health, ("", *self._models.names))
        await self._data_plane.drain(self._settings.drain_s)

    async def close(self) -> None:
        """Close connections, threads and metrics."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        await self._listener.stop(CLOSE_GRACE_S)
        await self._repository.close()
        await self._models.close()
        if self._metrics_server is not None:
            self._metrics_server.close()

    async def _say_health(self, model: Model) -> None:
        """Report whether a model is served; draining, the servicer takes nothing but NOT_SERVING."""
        states = health_pb2.HealthCheckResponse
        status = states.SERVING if model.serves else states.NOT_SERVING
        names = [name for name in self._models.names if self._models.name_of(name) == model.name]
        await set_entries(self._health, dict.fromkeys(names, status))

    def _add_controls(self, server: aio.Server) -> None:
        controls = Controls(self._service, self._models, lambda: self._data_plane.draining)
        server.add_generic_rpc_handlers((controls.handlers(), self._repository.handlers()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)


async def create_server(service: OipService, settings: Settings, load_engine: Load) -> OipServer:
    """Load every model and listen. Raises ArtifactError, EngineError or PortBusyError."""
    batch_scope = BatchScope()
    given_up = threading.Event()

    def make_version(folder: Path) -> Version:
        if given_up.is_set():
            raise CancelledError
        threads = settings.threads_of(folder)
        compute = partial(EngineThreads, threads=threads)
        limits = BatchLimits(threads, settings.max_queue, MAX_MERGE_ROWS)
        return Version(load(folder, service, load_engine, limits), compute, limits, batch_scope)

    try:
        found = await asyncio.to_thread(load_models, settings.models, service, make_version)
    except asyncio.CancelledError:
        given_up.set()  # the thread goes on until it loads another version, and the process ends after it
        raise
    models = Models(found, service.stack.name)
    server = OipServer(service, settings, models, make_version, batch_scope)
    try:
        await server.start()
    except BaseException:
        await server.close()
        raise
    return server


def _why_no_loading(settings: Settings) -> str:
    if settings.model_loading == OFF:
        return "loading models by a call is off: start the server with --model-loading on"
    if settings.worker_of is not None:
        return (
            "several processes share this port, and a call reaches one of them: restart the server, or run one process"
        )
    return ""
