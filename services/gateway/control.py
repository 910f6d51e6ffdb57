"""The gateway's control RPCs: ListPaths, and what the Open Inference Protocol asks about server and models."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import grpc

from servepath.artifacts.spec import TensorSpec
from servepath.artifacts.text import TextForm
from servepath.protocols import oip, servepath
from servepath.protocols.errors import ModelNotFound
from servepath.protocols.names import invalid_name_error
from servepath_pb.servepath.oip import oip_pb2
from servepath_pb.servepath.v1 import gateway_pb2
from services.dataplane import control
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.replica import Replica

VERSION = "0.1.0"


@dataclass(frozen=True, slots=True)
class Path:
    """One deployment path, as the control RPCs see it.

    weight: percent of the calls for the model alone that it gets. text: how it takes texts, where it does.
    """

    model: str
    stack: str
    is_default: bool
    replica: Replica
    artifacts: Artifacts | ExternalArtifacts
    weight: float
    text: TextForm | None = None


class Controls:
    """Answers control RPCs from the paths.

    names: every name that callers may use -> its path. draining: says whether this process is shutting down.
    """

    def __init__(self, names: Mapping[str, Path], draining: Callable[[], bool]) -> None:
        self._names = names
        self._draining = draining
        self._paths = [path for name, path in names.items() if "@" in name]

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
        return gateway_pb2.ListPathsResponse(paths=[_describe(path) for path in self._paths])

    async def server_live(self, _: oip_pb2.ServerLiveRequest) -> oip_pb2.ServerLiveResponse:
        """Answer that this process runs."""
        return oip_pb2.ServerLiveResponse(live=True)

    async def server_ready(self, _: oip_pb2.ServerReadyRequest) -> oip_pb2.ServerReadyResponse:
        """Answer whether every path is ready."""
        ready = all(path.replica.ready() for path in self._paths) and not self._draining()
        return oip_pb2.ServerReadyResponse(ready=ready)

    async def server_metadata(self, _: oip_pb2.ServerMetadataRequest) -> oip_pb2.ServerMetadataResponse:
        """Answer what this server is."""
        return oip_pb2.ServerMetadataResponse(name="servepath gateway", version=VERSION)

    async def model_ready(self, request: oip_pb2.ModelReadyRequest) -> oip_pb2.ModelReadyResponse:
        """Answer whether a path is ready. Raises BadInput or ModelNotFound."""
        path = self._find(request.name, request.version)
        return oip_pb2.ModelReadyResponse(ready=path.replica.ready() and not self._draining())

    async def model_metadata(self, request: oip_pb2.ModelMetadataRequest) -> oip_pb2.ModelMetadataResponse:
        """Declare a path's tensors. Raises BadInput or ModelNotFound."""
        path = self._find(request.name, request.version)
        spec = path.artifacts.current.spec
        return oip_pb2.ModelMetadataResponse(
            name=request.name,
            versions=[str(version) for version in path.artifacts.versions],
            platform=path.stack,
            inputs=_oip_tensors(spec.inputs),
            outputs=_oip_tensors(spec.outputs),
        )

    def _find(self, name: str, version: str) -> Path:
        path = self._names.get(name)
        if path is None:
            raise invalid_name_error(name)
        number = oip.parse_version(version)
        if number and path.artifacts.find(number) is None:
            raise ModelNotFound(f"{name} has no version {number}")
        return path


def _describe(path: Path) -> gateway_pb2.Path:
    served, spec, proof = path.replica.served, path.artifacts.current.spec, path.replica.proof
    return gateway_pb2.Path(
        model=path.model,
        stack=path.stack,
        is_default=path.is_default,
        ready=path.replica.ready(),
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
        weight=path.weight,
    )


def _own_tensors(tensors: Iterable[TensorSpec]) -> list[gateway_pb2.TensorSpec]:
    return [gateway_pb2.TensorSpec(name=t.name, dtype=t.dtype, shape=t.sizes) for t in tensors]


def _oip_tensors(tensors: Iterable[TensorSpec]) -> list[oip_pb2.ModelMetadataResponse.TensorMetadata]:
    return [oip_pb2.ModelMetadataResponse.TensorMetadata(name=t.name, datatype=t.dtype, shape=t.sizes) for t in tensors]
