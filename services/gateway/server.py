"""The gateway put together: the one place where its objects are built."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from servepath.artifacts.manifest import Manifest
from servepath.artifacts.spec import Spec
from servepath.artifacts.text import TextForm
from servepath.http2.drivers.asyncio_driver import new_coalescer
from servepath.protocols import oip, servepath
from servepath.protocols.codecs import STACK_CODECS, StackCodec, external_codec
from servepath.protocols.deployments import Deployment, Deployments, DeploymentsError, PathLimits, read_deployments
from servepath.protocols.errors import BadInput
from servepath.protocols.identity import engine_of
from servepath.protocols.signature import Signature, probe_inputs
from servepath.protocols.stacks import Stack, server_of
from servepath.protocols.token import credentials_of
from servepath.protocols.types import Provenance, Request
from services.dataplane.backend import Backend
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from services.dataplane.data_plane import DataPlane
from services.dataplane.listener import Listener, ListenerLimits
from services.dataplane.listeners import LISTENERS
from services.dataplane.metrics_server import MetricsServer, process_registry, serve_metrics
from services.dataplane.validate import Validate
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.config import Settings
from services.gateway.control import Controls, Path
from services.gateway.golden import PathProver
from services.gateway.metadata import ServerMetadata
from services.gateway.metrics import Metrics
from services.gateway.probe import Prober
from services.gateway.replica import Replica
from services.gateway.router import ModelRouter, VersionRouter, WeightedRouter
from services.gateway.text import TextInput, Translators

# How long the connections get after the last call has been answered.
CLOSE_GRACE_S = 3.0
# Calls with one value of this go to one path of a model that has weights.
CALLER_KEY = "x-servepath-key"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A started gateway; `drain` and `close` end it."""

    port: int
    drain_s: float
    data_plane: DataPlane
    front: Listener
    backend: Backend
    prober: Prober
    metrics_server: MetricsServer

    @property
    def metrics_port(self) -> int:
        """Return the Prometheus port."""
        return self.metrics_server.port

    async def drain(self) -> None:
        """Report NOT_SERVING, refuse new calls and wait for those in flight."""
        await self.prober.stop()
        await self.data_plane.drain(self.drain_s)

    async def close(self) -> None:
        """Close front, channels and metrics."""
        await self.prober.stop()
        await self.front.stop(CLOSE_GRACE_S)
        await self.backend.close()
        self.metrics_server.close()


async def create_gateway(settings: Settings) -> Gateway:
    """Build and start a gateway. Raises DeploymentsError, ArtifactError or PortBusyError."""
    deployments = read_deployments(settings.deployments)
    paths = _Paths(settings, deployments)
    registry = process_registry()
    metrics = Metrics(registry, {name: (path.model, path.stack) for name, path in paths.names.items()})
    for path, merge in paths.merges.items():
        metrics.watch(path, merge)
    backend = ModelRouter(paths.chains)
    data_plane = DataPlane(
        backend,
        {servepath.METHOD: servepath, oip.METHOD: oip},
        metrics.on_complete,
        paths.batch_scope,
        CALLER_KEY if any(deployment.weights for deployment in deployments.models) else "",
    )
    replicas = {name: path.replica for name, path in paths.names.items()}
    prober = Prober(replicas, paths.probes, deployments.gateway.probe_interval_s, paths.provers)
    front = LISTENERS[settings.front](
        f"{settings.host}:{settings.port}",
        (servepath.METHOD, oip.METHOD),
        data_plane.dispatch,
        _controls(settings, Controls(paths.names, lambda: data_plane.draining), prober),
        ListenerLimits(
            deployments.gateway.max_message_bytes,
            deployments.gateway.default_deadline_s,
            deployments.gateway.max_deadline_s,
            share_port=settings.worker_of is not None,
        ),
        coalescer=paths.coalescer,
    )
    metrics_server = serve_metrics(registry, settings.metrics_host, settings.metrics_port)
    try:
        port = await front.start()
    except BaseException:
        metrics_server.close()
        await backend.close()
        raise
    await prober.start()
    return Gateway(port, deployments.gateway.drain_s, data_plane, front, backend, prober, metrics_server)


class _Paths:
    """Every path's chain: validate > route > merge > replica."""

    def __init__(self, settings: Settings, deployments: Deployments) -> None:
        self._settings = settings
        self._deployments = deployments
        self._stacks = deployments.stacks
        self.names: dict[str, Path] = {}
        self.batch_scope = BatchScope()
        self.coalescer = new_coalescer()
        self.merges: dict[tuple[str, str], Batcher] = {}
        self.signatures: dict[str, Signature] = {}
        self.provers: dict[tuple[str, str], PathProver] = {}
        self.probes: dict[str, tuple[Request, int]] = {}
        self.chains: dict[str, Backend] = {}
        self.translators: dict[str, Translators] = {}
        for deployment in deployments.models:
            self._add(deployment)

    def _add(self, deployment: Deployment) -> None:
        stacks = {stack: self._path(deployment, stack, limits) for stack, limits in deployment.stacks.items()}
        names = {name: stacks[stack] for name, stack in deployment.names.items()}
        self.names |= names
        merges = {name: self.merges[path.model, path.stack] for name, path in names.items()}
        route = VersionRouter(merges, {name: path.artifacts for name, path in names.items()})
        signature = self.signatures[deployment.model]
        for name, path in names.items():
            chain: Backend = Validate(route, signature, partial(_who_would_answer, path))
            translators = self.translators[deployment.model]
            self.chains[name] = TextInput(chain, translators, partial(_version_of_texts, path)) if path.text else chain
        if deployment.weights:
            weights = {f"{deployment.model}@{stack}": percent for stack, percent in deployment.weights.items()}
            self.chains[deployment.model] = WeightedRouter({name: self.chains[name] for name in weights}, weights)

    def _path(self, deployment: Deployment, name: str, limits: PathLimits) -> Path:
        model, stack, address = deployment.model, self._stacks[name], self._settings.addresses[server_of(name)]
        artifacts, gateway = self._artifacts(model, stack), self._deployments.gateway
        if above := gateway.exceeded_by(artifacts.current.spec):
            raise DeploymentsError(f"{model}: {above} of {self._deployments.file}")
        signature = self.signatures.setdefault(model, Signature(artifacts.current.spec, gateway.max_elements))
        request = Request(model, 0, probe_inputs(artifacts.current))
        try:
            self.probes.setdefault(model, (request, signature.check(request)))
        except BadInput as error:
            raise DeploymentsError(
                f"{model}: [gateway] of {self._deployments.file} refuses its probe: {error}"
            ) from error
        replica = Replica(
            model=model,
            stack=name,
            called=stack.name_of(model),
            address=address,
            codec=self._codec(model, stack, artifacts.current.spec),
            signature=signature,
            artifacts=artifacts,
            max_message_bytes=limits.max_message_bytes,
            credentials=credentials_of(stack, self._settings.files),
            engine_of=engine_of(stack, self._settings.files),
            coalescer=self.coalescer,
            metadata=ServerMetadata(address, self.coalescer) if stack.external else None,
        )
        batches = _batch_limits(limits, artifacts.current.spec)
        merge = self.merges[model, name] = Batcher(replica, batches, self.batch_scope)
        self.provers[model, name] = PathProver(self._settings.exports, artifacts, merge, batches)
        return Path(
            model=model,
            stack=name,
            is_default=name == deployment.default,
            replica=replica,
            artifacts=artifacts,
            weight=deployment.shares.get(name, 0.0),
            text=self._text_of(model, artifacts.current),
        )

    def _text_of(self, model: str, current: Manifest) -> TextForm | None:
        """Return how a model takes texts, None where it does not. Raises ArtifactError."""
        translators = Translators(self._settings.exports, model, current.spec)
        translators = self.translators.setdefault(model, translators)
        return translators.find(current.version).form if translators.has(current.version) else None

    def _artifacts(self, model: str, stack: Stack) -> Artifacts | ExternalArtifacts:
        exports = self._settings.exports
        return ExternalArtifacts(exports, model) if stack.external else Artifacts(exports, model, stack.artifact_format)

    def _codec(self, model: str, stack: Stack, spec: Spec) -> StackCodec:
        external = stack.external
        return external_codec(self._deployments, model, stack.name, spec) if external else STACK_CODECS[stack.name]


def _batch_limits(limits: PathLimits, spec: Spec) -> BatchLimits:
    """Return the limits of a path's batches."""
    rows = spec.max_rows(limits.max_merge_rows)
    return BatchLimits(limits.max_in_flight, limits.max_queue, rows, limits.max_merge_bytes, spec.padded_inputs)


def _who_would_answer(path: Path, version: int) -> Provenance:
    """Return the origin of an empty answer to a request of zero rows."""
    served = path.replica.served
    version, sha256 = path.artifacts.promised(version or served.version)
    return served._replace(version=version, sha256=sha256, sha256_observed=False)


def _version_of_texts(path: Path, version: int) -> int:
    """Return the version whose tokenizer is for a request of this one: of an external server, always our current."""
    if isinstance(path.artifacts, ExternalArtifacts):
        return path.artifacts.current.version
    return _who_would_answer(path, version).version


def _controls(settings: Settings, controls: Controls, prober: Prober) -> list[Callable[[aio.Server], None]]:
    adds: list[Callable[[aio.Server], Any]] = [
        lambda server: server.add_generic_rpc_handlers(controls.handlers()),
        partial(health_pb2_grpc.add_HealthServicer_to_server, prober.servicer),
    ]
    if settings.reflection:
        names = (servepath.SERVICE, reflection.SERVICE_NAME)
        adds.append(partial(reflection.enable_server_reflection, names))
    return adds
