"""What a reload does: routes built from deployments.toml as it is now, and put into use without a failed call."""

from collections.abc import Callable
from dataclasses import dataclass

from servepath.protocols import tuned
from servepath.protocols.deployments import Deployment, Deployments, DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from services.dataplane.data_plane import DataPlane
from services.gateway.config import Settings
from services.gateway.metrics import Metrics, ShadowMetrics
from services.gateway.paths import Builder
from services.gateway.probe import Prober
from services.gateway.resolve import Resolver
from services.gateway.router import ModelRouter
from services.gateway.routes import Routes

# Calls with one value of this go to one path, and one version, of a model that has weights.
CALLER_KEY = "x-servepath-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteUpdater:
    """Builds routes, and passes them on to everything that works by them.

    again: reads the addresses again, for a deployments file that has changed.
    """

    settings: Settings
    again: Callable[[Settings], Settings] | None
    builder: Builder
    resolver: Resolver
    router: ModelRouter
    metrics: Metrics
    shadow_metrics: ShadowMetrics
    prober: Prober
    data_plane: DataPlane

    def build(self, known: Routes, read: bool) -> Routes:  # noqa: FBT001 - a Reloader's
        """Return the routes of the file or, without `read`, those known at the addresses of now.

        Raises DeploymentsError, ArtifactError or SettingsError; then nothing has been changed.
        """
        builder = self.builder
        if not read:
            return builder.build(known.deployments, known)
        wanted, before = self._read(known.deployments), builder.settings
        try:
            builder.settings = self.again(self.settings) if self.again else self.settings
            return builder.build(wanted, known)
        except BaseException:
            builder.settings = before
            raise

    def use(self, routes: Routes) -> None:
        """Put routes into use: nothing of a call lies between these lines."""
        for path in routes.paths.values():
            path.replicas.use()
        paths = {name: path.name for name, path in routes.names.items()}
        self.router.use(routes.chains, paths, routes.version_labels)
        self.metrics.use(routes.labels, {name: path.replicas for name, path in routes.paths.items()})
        self.shadow_metrics.use(routes.shadows)
        self.prober.use(
            {name: chain.ready for name, chain in routes.chains.items()},
            [path.replicas for path in routes.paths.values()],
        )
        self.data_plane.caller_key = CALLER_KEY if any(map(_divided, routes.deployments.models)) else ""
        self.resolver.keep(self.builder.settings.addresses.values())

    def _read(self, before: Deployments) -> Deployments:
        """Read the file while the gateway runs. Raises DeploymentsError or ArtifactError."""
        deployments = tuned_deployments(self.settings)
        if deployments.gateway != before.gateway:
            file = self.settings.deployments
            raise DeploymentsError(f"[gateway] of {file} has changed, which counts from the start: restart the gateway")
        return deployments


def tuned_deployments(settings: Settings) -> Deployments:
    """Return what the file says, with the limits of the tuned paths. Raises DeploymentsError or ArtifactError."""
    return tuned.applied(read_deployments(settings.deployments), settings.tuned)


def _divided(deployment: Deployment) -> bool:
    """Return whether the calls for a model alone go to several paths or versions, or may come to."""
    promoted = deployment.shadow is not None and deployment.shadow.promote is not None
    return promoted or bool(deployment.version_weights) or sum(share > 0 for share in deployment.shares.values()) > 1
