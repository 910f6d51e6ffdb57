"""The client side of every stack's protocol, by stack: who speaks what."""

from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from grpc import StatusCode

from servepath.artifacts.spec import Spec
from servepath.protocols.deployments import Deployments, DeploymentsError
from servepath.protocols.errors import ServeError
from servepath.protocols.external import ExternalCodec
from servepath.protocols.stacks import PATH_STACKS
from servepath.protocols.types import Answer, Request


class StackCodec(Protocol):
    """Our types to a server's bytes and back; each module that STACKS names is one."""

    METHOD: str

    def encode_request(self, request: Request, model: str, version: int) -> bytes:
        """Return the bytes of a request; version 0 means the one that the server serves now."""

    def decode_answer(self, payload: bytes, model: str, stack: str) -> Answer:
        """Read a reply. Raises BackendBadReply, or BadInput for an item that the server refused alone."""

    def translate(self, code: StatusCode, details: str) -> ServeError:
        """Map the server's error to one of ours; covers every gRPC code."""


STACK_CODECS: MappingProxyType[str, StackCodec] = MappingProxyType(
    {name: cast("StackCodec", import_module(stack.codec)) for name, stack in PATH_STACKS.items()}
)


def external_codec(deployments: Deployments, model: str, stack: str, spec: Spec) -> StackCodec:
    """Return the codec of a path on an external server. Raises DeploymentsError for tensors that the model lacks."""
    try:
        return ExternalCodec(deployments.external[model, stack], spec)
    except ValueError as error:
        raise DeploymentsError(f"{deployments.file}: [models.{model}.stacks.{stack}] {error}") from error
