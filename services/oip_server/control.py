"""The control RPCs of the Open Inference Protocol: what the server and its models are, and whether they answer."""

from collections.abc import Callable, Iterable

import grpc

from servepath import VERSION
from servepath.artifacts.spec import TensorSpec
from servepath.protocols import oip, oip_repository
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.dataplane import control
from services.oip_server.models import Models
from services.oip_server.service import OipService


class Controls:
    """Answers control RPCs from the models; `draining` says whether this process is shutting down."""

    def __init__(self, service: OipService, models: Models, draining: Callable[[], bool]) -> None:
        self._service = service
        self._models = models
        self._draining = draining

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers to register on a server."""
        return control.handlers(
            oip.SERVICE,
            {
                "ServerLive": (pb.ServerLiveRequest, self.server_live),
                "ServerReady": (pb.ServerReadyRequest, self.server_ready),
                "ServerMetadata": (pb.ServerMetadataRequest, self.server_metadata),
                "ModelReady": (pb.ModelReadyRequest, self.model_ready),
                "ModelMetadata": (pb.ModelMetadataRequest, self.model_metadata),
            },
        )

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Answer that this process runs."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Answer whether every model is ready."""
        return pb.ServerReadyResponse(ready=self._models.ready() and not self._draining())

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Answer what this server is."""
        name = f"servepath {self._service.name}"
        return pb.ServerMetadataResponse(name=name, version=VERSION, extensions=[oip_repository.EXTENSION])

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Answer whether a version is ready. Raises BadInput or ModelNotFound."""
        _, version = self._models.find(request.name, oip.parse_version(request.version))
        return pb.ModelReadyResponse(ready=version.chain.ready() and not self._draining())

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Declare a version's tensors, and all versions. Raises BadInput or ModelNotFound."""
        model, version = self._models.find(request.name, oip.parse_version(request.version))
        served, spec = version.artifact.served, version.artifact.spec
        difference = version.artifact.proof.difference
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in sorted(model.versions)],
            platform=self._service.platform,
            inputs=_tensors(spec.inputs),
            outputs=_tensors(spec.outputs),
            properties={
                "engine": served.engine,
                "engine_version": served.engine_version,
                "precision": served.precision,
                "sha256": served.sha256,
                "version": str(served.version),
                "max_batch_rows": str(version.artifact.max_rows),
                **({} if difference is None else {"difference": f"{difference:.3g}"}),
            },
        )


def _tensors(tensors: Iterable[TensorSpec]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [pb.ModelMetadataResponse.TensorMetadata(name=t.name, datatype=t.dtype, shape=t.sizes) for t in tensors]
