"""A gateway in this process, of a deployments file as text, in front of fake stacks; and callers of it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from grpc import aio

from servepath.protocols import servepath
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Answer
from servepath_pb.servepath.v1 import gateway_pb2
from services.gateway.config import Settings
from services.gateway.server import Gateway, create_gateway
from tests.limits import LONG_S


def settings(folder: Path, text: str, addresses: Mapping[str, str], front: str = "native") -> Settings:
    """Return the settings of a gateway of `text`; exports are below `folder`."""
    (folder / "deployments.toml").write_text(text)
    return Settings(
        deployments=folder / "deployments.toml",
        exports=folder / "exports",
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=False,
        addresses=addresses,
        files=service_files({}, folder),
        front=front,
    )


class Caller:
    """Calls one gateway."""

    def __init__(self, channel: aio.Channel) -> None:
        self._predict = channel.unary_unary(servepath.METHOD)
        self._list_paths = channel.unary_unary(servepath.LIST_PATHS)

    async def predict(self, payload: bytes) -> Answer:
        return servepath.decode_answer(await self._predict(payload, timeout=LONG_S))

    async def list_paths(self) -> gateway_pb2.ListPathsResponse:
        return gateway_pb2.ListPathsResponse.FromString(await self._list_paths(b"", timeout=LONG_S))


@asynccontextmanager
async def running(
    used: Settings, again: Callable[[Settings], Settings] | None = None
) -> AsyncIterator[tuple[Gateway, Caller]]:
    """Start a gateway and a caller of it; end both. `again`: reads the settings again at a reload."""
    gateway = await create_gateway(used, again)
    try:
        async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            yield gateway, Caller(channel)
    finally:
        await gateway.close()
