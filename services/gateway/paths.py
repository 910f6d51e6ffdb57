"""Builds what a deployments file says: every path with its chain (version > validate > replicas > merge > call).

A path that the file before had, too, is kept as it is, with its connections, its queue and what is known of it.
"""

import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from servepath.artifacts.spec import Spec
from servepath.artifacts.text import TextForm
from servepath.http2.drivers.asyncio_driver import new_coalescer
from servepath.protocols.codecs import STACK_CODECS, external_codec
from servepath.protocols.deployments import Deployment, Deployments, DeploymentsError, PathLimits
from servepath.protocols.errors import BadInput
from servepath.protocols.identity import engine_of
from servepath.protocols.signature import Signature, probe_inputs
from servepath.protocols.stacks import Stack, server_of
from servepath.protocols.token import credentials_of
from servepath.protocols.types import Provenance, Request
from services.dataplane.backend import Backend
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import BatchLimits
from services.dataplane.validate import Validate
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.call_parts import PLAIN, CallParts
from services.gateway.chains import make_routes
from services.gateway.config import Settings
from services.gateway.hedging import HedgingReplicas
from services.gateway.metadata import ServerMetadata
from services.gateway.promotion import refuse_promotion
from services.gateway.prover import PathProver
from services.gateway.replicas import Member, ReplicaSet
from services.gateway.router import VersionCheck
from services.gateway.routes import Origin, Path, Routes
from services.gateway.text import TextInput, Translators
from services.gateway.verdicts import Shadows
from services.gateway.version_labels import check_exported

log = logging.getLogger(__name__)


class Builder:
    """Builds Routes.

    resolve: gives the addresses that a setting stands for. on_fallback: called with the name of a path that a call
    leaves for another. batch_scope: open while a list of calls is handed over.
    """

    def __init__(
        self,
        settings: Settings,
        resolve: Callable[[str], tuple[str, ...]],
        on_fallback: Callable[[str], None],
        batch_scope: BatchScope,
        parts: CallParts = PLAIN,
    ) -> None:
        self.settings = settings
        self._resolve = resolve
        self._on_fallback = on_fallback
        self._batch_scope = batch_scope
        self._parts = parts
        self.coalescer = new_coalescer()

    def build(self, deployments: Deployments, known: Routes | None = None) -> Routes:
        """Return the routes of a file, with the paths of `known` that are as before.

        Raises DeploymentsError or ArtifactError; then nothing has been changed.
        """
        if self.settings.worker_of is not None:
            refuse_promotion(deployments)
        shadows = Shadows(self.settings.state, known.shadows if known else None)
        kept = known.paths if known else {}
        paths = {
            (path.model, path.stack): path for one in deployments.models for path in self._paths(deployments, one, kept)
        }
        for one in deployments.models:
            known_versions = {stack: paths[one.model, stack].artifacts for stack in one.stacks}
            check_exported(one, known_versions, deployments.file)
        return make_routes(deployments, paths, shadows, self._batch_scope, self._on_fallback)

    def _paths(
        self, deployments: Deployments, deployment: Deployment, kept: Mapping[tuple[str, str], Path]
    ) -> Iterator[Path]:
        model = deployment.model
        signatures = [(path.artifacts.current.spec, path.signature) for path in kept.values() if path.model == model]
        for name, limits in deployment.stacks.items():
            external = deployment.external.get(name)
            origin = Origin(limits, external, self._resolve(self.settings.addresses[server_of(name)]))
            path = kept.get((model, name))
            if path is None or path.origin != origin:
                same = path if path and path.origin.external == external else None
                path = self._path(
                    deployments, model, deployments.stacks[name], origin, signatures=signatures, known=same
                )
            signatures.append((path.artifacts.current.spec, path.signature))
            yield path

    def _path(
        self,
        deployments: Deployments,
        model: str,
        stack: Stack,
        origin: Origin,
        *,
        signatures: Sequence[tuple[Spec, Signature]],
        known: Path | None,
    ) -> Path:
        """Build a path, of what `known`, the one before, has at the same addresses; what is known of its servers stays.

        signatures: those that there are, so that paths of one spec share one.
        """
        exports = self.settings.exports
        artifacts = known.artifacts if known else _artifacts(exports, model, stack)
        spec = artifacts.current.spec
        signature = _signature(deployments, model, spec, signatures)
        probe = _probe(deployments, model, artifacts, signature)
        codec = external_codec(deployments, model, stack.name, spec) if stack.external else STACK_CODECS[stack.name]
        limits = _batch_limits(origin.limits, spec)

        def member(address: str) -> Member:
            replica = self._parts.replica(
                model=model,
                stack=stack.name,
                called=stack.name_of(model),
                address=address,
                codec=codec,
                signature=signature,
                artifacts=artifacts,
                max_message_bytes=origin.limits.max_message_bytes,
                credentials=credentials_of(stack, self.settings.files),
                engine_of=engine_of(stack, self.settings.files),
                coalescer=self.coalescer,
                metadata=ServerMetadata(address, self.coalescer) if stack.external else None,
            )
            batcher = self._parts.batcher(replica, limits, self._batch_scope)
            return Member(replica, batcher, PathProver(exports, artifacts, batcher, limits), probe)

        replicas = _replicas(f"{model}@{stack.name}", _members(member, origin, known), origin.limits)
        if known:
            replicas.budget = known.replicas.budget
        translators = known.translators if known else Translators(exports, model, spec)
        chain, text = _path_chain(replicas, artifacts, stack, signature, translators)
        return Path(model, stack.name, origin, artifacts, signature, replicas, translators, chain, stack, text)


def _signature(
    deployments: Deployments, model: str, spec: Spec, signatures: Sequence[tuple[Spec, Signature]]
) -> Signature:
    """Return the signature of a spec, of those that there are if it can be. Raises DeploymentsError."""
    gateway = deployments.gateway
    if above := gateway.exceeded_by(spec):
        raise DeploymentsError(f"{model}: {above} of {deployments.file}")
    same = (signature for known_spec, signature in signatures if known_spec == spec)
    return next(same, None) or Signature(spec, gateway.max_elements)


def _probe(
    deployments: Deployments, model: str, artifacts: Artifacts | ExternalArtifacts, signature: Signature
) -> tuple[Request, int]:
    """Return the request that a path is probed with, and its rows. Raises DeploymentsError."""
    request = Request(model, 0, probe_inputs(artifacts.current))
    try:
        return request, signature.check(request)
    except BadInput as error:
        raise DeploymentsError(f"{model}: [gateway] of {deployments.file} refuses its probe: {error}") from error


def _members(make: Callable[[str], Member], origin: Origin, known: Path | None) -> list[Member]:
    """Return a path's replicas: at known addresses those of the path before, or with other limits their successors."""
    before = {each.replica.address: each for each in known.replicas.members} if known else {}
    if known and known.origin.limits == origin.limits:
        return [before.get(address) or make(address) for address in origin.addresses]
    return [_successor(make(address), before.get(address)) for address in origin.addresses]


def _successor(member: Member, before: Member | None) -> Member:
    """Return a replica with what is known of its server by the one before: a refused one stays refused."""
    if before is not None:
        member.replica.believe(before.replica)
        member.prover.believe(before.prover.known)
    return member


def _replicas(name: str, members: Sequence[Member], limits: PathLimits) -> ReplicaSet:
    if limits.hedge_percent and len(members) > 1:
        return HedgingReplicas(members, limits)
    if limits.hedge_percent:
        log.warning("hedge_percent of %s changes nothing: its stack has one address, and hedging takes two", name)
    return ReplicaSet(members)


def _path_chain(
    replicas: ReplicaSet,
    artifacts: Artifacts | ExternalArtifacts,
    stack: Stack,
    signature: Signature,
    translators: Translators,
) -> tuple[Backend, TextForm | None]:
    """Return what takes a path's calls, and how it takes texts, where it does."""
    validate = Validate(replicas, signature, partial(_who_would_answer, replicas, artifacts))
    chain = VersionCheck(validate, artifacts, stack)
    version = artifacts.current.version
    if not translators.has(version):
        return chain, None
    text = translators.find(version).form
    return TextInput(chain, translators, partial(_version_of_texts, replicas, artifacts)), text


def _artifacts(exports: pathlib.Path, model: str, stack: Stack) -> Artifacts | ExternalArtifacts:
    return ExternalArtifacts(exports, model) if stack.external else Artifacts(exports, model, stack.artifact_format)


def _batch_limits(limits: PathLimits, spec: Spec) -> BatchLimits:
    """Return the limits of the batches of each replica of a path."""
    rows = spec.max_rows(limits.max_merge_rows)
    return BatchLimits(limits.max_in_flight, limits.max_queue, rows, limits.max_merge_bytes, spec.padded_inputs)


def _who_would_answer(replicas: ReplicaSet, artifacts: Artifacts | ExternalArtifacts, version: int) -> Provenance:
    """Return the origin of an empty answer to a request of zero rows."""
    served = replicas.served
    version, sha256 = artifacts.promised(version or served.version)
    return served._replace(version=version, sha256=sha256, sha256_observed=False)


def _version_of_texts(replicas: ReplicaSet, artifacts: Artifacts | ExternalArtifacts, version: int) -> int:
    """Return the version whose tokenizer is for a request of this one: of an external server, always our current."""
    if isinstance(artifacts, ExternalArtifacts):
        return artifacts.current.version
    return _who_would_answer(replicas, artifacts, version).version
