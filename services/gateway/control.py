"""The gateway's control RPCs: ListPaths, and what the Open Inference Protocol asks about server and models."""

from collections.abc import Callable, Iterable

import grpc

from servepath import VERSION
from servepath.artifacts.spec import TensorSpec
from servepath.protocols import oip, oip_repository, servepath
from servepath.protocols.deployments import Deployment
from servepath.protocols.errors import ModelNotFound
from servepath.protocols.names import invalid_name_error
from servepath_pb.servepath.oip import oip_pb2
from servepath_pb.servepath.v1 import gateway_pb2
from services.dataplane import control
from services.gateway.reload import Reloader
from services.gateway.routes import Path
from services.gateway.verdicts import Shadows, Verdicts
from services.gateway.version_labels import version_labels


class Controls:
    """Answers control RPCs from the routes in use. draining: says whether this process is shutting down."""

    def __init__(self, reloader: Reloader, draining: Callable[[], bool]) -> None:
        self._reloader = reloader
        self._draining = draining

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return the handlers to register on a server."""
        return (
            control.handlers(servepath.SERVICE, {"ListPaths": (gateway_pb2.ListPathsRequest, self.list_paths)}),
            control.handlers(
                oip.SERVICE,
                {
                    "ServerLive": (oip_pb2.ServerLiveRequest, self.server_live),
                    "ServerReady": (oip_pb2.ServerReadyRequest, self.server_ready),
                    "ServerMetadata": (oip_pb2.ServerMetadataRequest, self.server_metadata),
                    "ModelReady": (oip_pb2.ModelReadyRequest, self.model_ready),
                    "ModelMetadata": (oip_pb2.ModelMetadataRequest, self.model_metadata),
                },
            ),
        )

    async def list_paths(self, _: gateway_pb2.ListPathsRequest) -> gateway_pb2.ListPathsResponse:
        """List every path with what its last answer said."""
        routes = self._reloader.routes
        paths = [
            _describe(path, one, routes.shadows) for one in routes.deployments.models for path in routes.of(one.model)
        ]
        error, sha256 = self._reloader.error, self._reloader.sha256
        return gateway_pb2.ListPathsResponse(paths=paths, deployments_error=error, deployments_sha256=sha256)

    async def server_live(self, _: oip_pb2.ServerLiveRequest) -> oip_pb2.ServerLiveResponse:
        """Answer that this process runs."""
        return oip_pb2.ServerLiveResponse(live=True)

    async def server_ready(self, _: oip_pb2.ServerReadyRequest) -> oip_pb2.ServerReadyResponse:
        """Answer whether every path is ready."""
        ready = all(path.replicas.ready() for path in self._reloader.routes.paths.values()) and not self._draining()
        return oip_pb2.ServerReadyResponse(ready=ready)

    async def server_metadata(self, _: oip_pb2.ServerMetadataRequest) -> oip_pb2.ServerMetadataResponse:
        """Answer what this server is."""
        return oip_pb2.ServerMetadataResponse(
            name="servepath gateway", version=VERSION, extensions=[oip_repository.EXTENSION]
        )

    async def model_ready(self, request: oip_pb2.ModelReadyRequest) -> oip_pb2.ModelReadyResponse:
        """Answer whether a path is ready, and has the version that is named. Raises BadInput or ModelNotFound."""
        path, number = self._find(request.name, request.version)
        ready = self._reloader.routes.chains[request.name].ready() and self._has(request.name, path, number)
        return oip_pb2.ModelReadyResponse(ready=ready and not self._draining())

    async def model_metadata(self, request: oip_pb2.ModelMetadataRequest) -> oip_pb2.ModelMetadataResponse:
        """Declare a path's tensors. Raises BadInput or ModelNotFound."""
        path, _ = self._find(request.name, request.version)
        spec = path.artifacts.current.spec
        return oip_pb2.ModelMetadataResponse(
            name=request.name,
            versions=[str(version) for version in path.artifacts.versions],
            platform=path.stack,
            inputs=_oip_tensors(spec.inputs),
            outputs=_oip_tensors(spec.outputs),
        )

    def _find(self, name: str, version: str) -> tuple[Path, int]:
        """Return what a name and a version or its label mean; 0 is no version. Raises BadInput or ModelNotFound."""
        path = self._reloader.routes.names.get(name)
        if path is None:
            raise invalid_name_error(name)
        number, label = oip.parse_version_or_label(version)
        if label:
            number = self._reloader.routes.version_labels.find(name, label)
        if number and path.artifacts.find(number) is None:
            raise ModelNotFound(f"{name} has no version {number}")
        return path, number

    def _has(self, name: str, path: Path, number: int) -> bool:
        """Return whether the servers that a name's calls reach have a version, or ready ones that they fall back to."""
        routes = self._reloader.routes
        if name == path.name or not number:
            return _loaded(path, number)
        paths = routes.of(path.model)
        one = next(each for each in routes.deployments.models if each.model == path.model)
        others = [each for each in paths if each.stack in one.fallback and each.replicas.ready()]

        def answered(own: Path) -> bool:
            # What has no such version at all answers NOT_FOUND, and its calls fall back nowhere.
            return own.artifacts.find(number) is not None and any(_loaded(each, number) for each in (own, *others))

        return all(answered(each) for each in paths if routes.shadows.weight_of(one, each.stack))


def _loaded(path: Path, number: int) -> bool:
    """Return whether a path's server has a version, as far as that is known here; 0 is the one that it serves."""
    if number and path.server.which_one_version and number != path.replicas.served.version:
        return False
    return not number or path.artifacts.find(number) is not None


def _describe(path: Path, deployment: Deployment, shadows: Shadows) -> gateway_pb2.Path:
    served, spec, proof = path.replicas.served, path.artifacts.current.spec, path.replicas.proof
    fallback, verdicts = deployment.fallback, shadows.find(deployment, path.stack)
    return gateway_pb2.Path(
        model=path.model,
        stack=path.stack,
        is_default=path.stack == deployment.default,
        ready=path.replicas.ready(),
        engine=served.engine,
        engine_version=served.engine_version,
        precision=served.precision,
        version=served.version,
        sha256=served.sha256,
        inputs=_own_tensors(spec.inputs),
        outputs=_own_tensors(spec.outputs),
        labels=path.text.labels if path.text else (),
        max_tokens=path.text.max_tokens if path.text else 0,
        difference=proof.difference,
        refused=proof.refused,
        unbatched=proof.unbatched,
        weight=shadows.weight_of(deployment, path.stack),
        fallback=fallback.index(path.stack) + 1 if path.stack in fallback else 0,
        replicas=len(path.replicas.members),
        replicas_usable=sum(member.usable for member in path.replicas.members),
        shadow=shadow_message(verdicts) if verdicts else None,
        versions=path.artifacts.versions,
        one_version=bool(path.server.which_one_version),
        version_labels=[gateway_pb2.VersionLabel(**label._asdict()) for label in version_labels(deployment)],
    )


def shadow_message(verdicts: Verdicts) -> gateway_pb2.Shadow:
    """Return what came of a shadow's calls."""
    promotion = verdicts.promotion
    return gateway_pb2.Shadow(
        percent=verdicts.shadow.percent,
        **{verdict: count.value for verdict, count in verdicts.counts.items()},
        difference=verdicts.difference,
        said=verdicts.said,
        state=promotion.state if promotion else "",
        step=promotion.percent if promotion else 0,
    )


def _own_tensors(tensors: Iterable[TensorSpec]) -> list[gateway_pb2.TensorSpec]:
    return [gateway_pb2.TensorSpec(name=t.name, dtype=t.dtype, shape=t.sizes) for t in tensors]


def _oip_tensors(tensors: Iterable[TensorSpec]) -> list[oip_pb2.ModelMetadataResponse.TensorMetadata]:
    return [oip_pb2.ModelMetadataResponse.TensorMetadata(name=t.name, datatype=t.dtype, shape=t.sizes) for t in tensors]
