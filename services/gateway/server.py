"""The gateway put together: the one place where its objects are built."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols import oip, servepath
from services.dataplane.backend import Backend
from services.dataplane.batch_scope import BatchScope
from services.dataplane.data_plane import DataPlane
from services.dataplane.listener import Listener, ListenerLimits
from services.dataplane.listeners import LISTENERS
from services.dataplane.metrics_server import MetricsServer, process_registry, serve_metrics
from services.gateway.compare import Compare
from services.gateway.config import Settings
from services.gateway.control import Controls
from services.gateway.failure_log import FailureLog
from services.gateway.metrics import Metrics, ShadowMetrics, watch_reloads
from services.gateway.paths import Builder
from services.gateway.probe import LATE_S, Prober
from services.gateway.recent import Recent
from services.gateway.reload import Reloader, hash_of
from services.gateway.repository import Repository
from services.gateway.resolve import Resolver
from services.gateway.route_updater import RouteUpdater, tuned_deployments
from services.gateway.router import ModelRouter
from services.gateway.status import StatusBoard
from services.gateway.status_page import pages
from services.gateway.telemetry import call_parts

# How long the connections get after the last call has been answered.
CLOSE_GRACE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A started gateway; `drain` and `close` end it."""

    port: int
    drain_s: float
    data_plane: DataPlane
    listener: Listener
    backend: Backend
    prober: Prober
    reloader: Reloader
    metrics_server: MetricsServer
    recent: Recent
    resolver: Resolver
    stop_tracing: Callable[[], Awaitable[None]]

    @property
    def metrics_port(self) -> int:
        """Return the Prometheus port."""
        return self.metrics_server.port

    async def drain(self) -> None:
        """Report NOT_SERVING, refuse new calls and wait for those in flight."""
        await self.resolver.stop()
        await self.reloader.stop_watching()
        await self.prober.stop()
        await self.data_plane.drain(self.drain_s)

    async def close(self) -> None:
        """Close listener, channels, traces and metrics."""
        await self.resolver.stop()
        await self.reloader.stop()
        await self.prober.stop()
        self.recent.stop()
        await self.listener.stop(CLOSE_GRACE_S)
        await self.backend.close()
        await self.stop_tracing()
        self.metrics_server.close()


async def create_gateway(settings: Settings, again: Callable[[Settings], Settings] | None = None) -> Gateway:
    """Build and start a gateway. Raises DeploymentsError, ArtifactError or PortBusyError.

    `again`: reads the addresses again, for a deployments file that has changed.
    """
    content = hash_of(settings.deployments)
    deployments = tuned_deployments(settings)
    registry, batch_scope, resolver = process_registry(), BatchScope(), Resolver()
    metrics, shadow_metrics = Metrics(registry), ShadowMetrics(registry)
    metrics.on_failure = FailureLog().record
    parts = call_parts(settings.otel, metrics)
    builder = Builder(settings, resolver.addresses, metrics.on_fallback, batch_scope, parts)
    router = ModelRouter({})
    data_plane = parts.data_plane(
        router, {servepath.METHOD: servepath, oip.METHOD: oip}, metrics.on_complete, batch_scope
    )
    timeout_s = max(LATE_S, deployments.gateway.default_deadline_s)
    prober = Prober(deployments.gateway.probe_interval_s, timeout_s=timeout_s)
    updater = RouteUpdater(
        settings=settings,
        again=again,
        builder=builder,
        resolver=resolver,
        router=router,
        metrics=metrics,
        shadow_metrics=shadow_metrics,
        prober=prober,
        data_plane=data_plane,
    )
    routes = builder.build(deployments)
    updater.use(routes)
    folders = (settings.exports, settings.state, *([settings.tuned] if settings.tuned else []))
    reloader = Reloader(settings.deployments, folders, routes, updater.build, updater.use, content=content)
    resolver.on_change = reloader.follow
    watch_reloads(reloader, registry)
    board = StatusBoard(reloader, metrics)
    listener = _listener(settings, reloader, data_plane, prober, builder.coalescer)
    metrics_server = serve_metrics(registry, settings.metrics_host, settings.metrics_port, pages(board.status))
    try:
        port = await listener.start()
    except BaseException:
        metrics_server.close()
        await router.close()
        raise
    parts.start()
    await prober.start()
    reloader.start()
    resolver.start()
    board.recent.start()
    return Gateway(
        port=port,
        drain_s=deployments.gateway.drain_s,
        data_plane=data_plane,
        listener=listener,
        backend=router,
        prober=prober,
        reloader=reloader,
        metrics_server=metrics_server,
        recent=board.recent,
        resolver=resolver,
        stop_tracing=parts.stop,
    )


def _listener(
    settings: Settings, reloader: Reloader, data_plane: DataPlane, prober: Prober, coalescer: WriteCoalescer
) -> Listener:
    """Return what takes all calls. coalescer: shared with the connections that the answers come from."""
    gateway = reloader.routes.deployments.gateway
    limits = ListenerLimits(
        gateway.max_message_bytes,
        gateway.default_deadline_s,
        gateway.max_deadline_s,
        share_port=settings.worker_of is not None,
    )
    return LISTENERS[settings.front](
        f"{settings.host}:{settings.port}",
        (servepath.METHOD, oip.METHOD),
        data_plane.dispatch,
        _controls(settings, _handlers(settings, reloader, data_plane, limits), prober),
        limits,
        coalescer=coalescer,
    )


def _handlers(
    settings: Settings, reloader: Reloader, data_plane: DataPlane, limits: ListenerLimits
) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return what answers the calls that are no predictions."""
    return (
        *Controls(reloader, lambda: data_plane.draining).handlers(),
        *Compare(reloader, data_plane.dispatch, limits).handlers(),
        *Repository(reloader, limits, settings.model_loading).handlers(),
    )


def _controls(
    settings: Settings, handlers: tuple[grpc.GenericRpcHandler, ...], prober: Prober
) -> list[Callable[[aio.Server], None]]:
    adds: list[Callable[[aio.Server], Any]] = [
        lambda server: server.add_generic_rpc_handlers(handlers),
        partial(health_pb2_grpc.add_HealthServicer_to_server, prober.servicer),
    ]
    if settings.reflection:
        names = (servepath.SERVICE, reflection.SERVICE_NAME)
        adds.append(partial(reflection.enable_server_reflection, names))
    return adds
