"""What takes the calls of each name: a path's chain, or for a model what chooses one, repeats calls or splits them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from servepath.protocols.deployments import Deployment, Deployments
from services.dataplane.backend import Backend
from services.dataplane.batch_scope import BatchScope
from services.gateway.fallback import Fallback
from services.gateway.router import VersionSplit, WeightedRouter
from services.gateway.routes import Path, Routes
from services.gateway.shadow import ComparedPath, Repeater, ShadowPolicy
from services.gateway.verdicts import Shadows
from services.gateway.version_labels import weighted_versions


def make_routes(
    deployments: Deployments,
    paths: Mapping[tuple[str, str], Path],
    shadows: Shadows,
    batch_scope: BatchScope,
    on_fallback: Callable[[str], None],
) -> Routes:
    """Return the routes to these paths. on_fallback: called with the name of a path that a call leaves for another."""
    names = {name: paths[one.model, stack] for one in deployments.models for name, stack in one.names.items()}
    chains = {name: path.chain for name, path in names.items()}
    chains |= {one.model: _model_chain(one, paths, shadows, on_fallback) for one in deployments.models}
    routes = Routes(deployments, paths, names, chains, shadows)
    routes = replace(routes, chains=chains | dict(_shadowed(routes, batch_scope)))
    return replace(routes, chains={**routes.chains, **dict(_split_by_version(routes))})


def _model_chain(
    deployment: Deployment,
    built: Mapping[tuple[str, str], Path],
    shadows: Shadows,
    on_fallback: Callable[[str], None],
) -> Backend:
    """Return what takes the calls for a model alone."""
    own = {stack: built[deployment.model, stack] for stack in deployment.stacks}
    names = {stack: path.name for stack, path in own.items()}
    paths = {path.name: path.chain for path in own.values()}
    verdicts = shadows.find(deployment, deployment.shadow.stack) if deployment.shadow else None
    promotion = verdicts.promotion if verdicts else None
    if not (deployment.split or deployment.fallback):
        return paths[names[deployment.default]]
    shares = deployment.split or deployment.shares
    router = WeightedRouter(paths, {names[stack]: share for stack, share in shares.items()})
    if promotion:
        promotion.lead(router)
    if not deployment.fallback:
        return router
    asked = {stack: deployment.fallback for stack, share in deployment.shares.items() if share}
    if verdicts and promotion:
        # A stack that is yet to be promoted keeps nobody from being answered.
        asked.setdefault(verdicts.shadow.stack, (*deployment.fallback, deployment.default))
    orders = {names[one]: tuple(names[each] for each in dict.fromkeys((one, *then))) for one, then in asked.items()}
    ready = {path.name: path.replicas for path in own.values()}
    return Fallback(router, paths, orders, ready, on_fallback)


def _shadowed(routes: Routes, batch_scope: BatchScope) -> Iterator[tuple[str, Backend]]:
    """Yield the names whose calls may go to other paths than their model's shadow, and what repeats them there."""
    longest_s = routes.deployments.gateway.default_deadline_s
    for one in routes.deployments.models:
        verdicts = routes.shadows.find(one, one.shadow.stack) if one.shadow else None
        if verdicts is None:
            continue
        compared = {
            path.stack: ComparedPath(path.artifacts.current.spec, path.replicas) for path in routes.of(one.model)
        }
        repeater = Repeater(routes.chains[verdicts.name], compared, verdicts, longest_s, batch_scope=batch_scope)
        for name in one.names:
            if name != verdicts.name:
                yield name, ShadowPolicy(routes.chains[name], repeater)


def _split_by_version(routes: Routes) -> Iterator[tuple[str, Backend]]:
    """Yield the models whose calls are split between versions, and what does that.

    Before they are repeated on a shadow: it is asked for the same version.
    """
    for one in routes.deployments.models:
        if one.version_weights:
            yield one.model, VersionSplit(routes.chains[one.model], weighted_versions(one))
