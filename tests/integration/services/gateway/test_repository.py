"""The model repository at the gateway: the state of every path, and loads that are passed on where a stack can."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc import aio

from servepath.http2 import frames
from servepath.protocols import oip, oip_repository, servepath
from servepath.protocols.errors import Draining, ModelLoading, ServeError
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.dataplane import control
from services.dataplane.listener import ListenerLimits
from services.dataplane.options import OFF, ON
from services.gateway import repository as of_gateway
from services.gateway.server import Gateway
from services.oip_server.server import OipServer, create_server
from services.onnx_svc.config import SERVICE, Settings
from services.onnx_svc.ort import OrtEngine
from tests import exports as placeholders
from tests.gateways import Caller, running, settings
from tests.limits import LONG_S
from tests.oip_client import code_and_reason
from tests.tiny_onnx import linear, make_export

DEPLOYMENTS = """
[gateway]
probe_interval_s = 0.05
[servers.theirs]
protocol = "oip"
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
[models.alpha.stacks.tfserving]
[models.alpha.stacks.torchserve]
[models.alpha.stacks.theirs]
"""
NOWHERE = "127.0.0.1:1"


async def onnx_svc(exports: Path, model_loading: str) -> OipServer:
    used = Settings(exports, port=0, metrics_port=0, watch_s=LONG_S, model_loading=model_loading)
    return await create_server(SERVICE, used, partial(OrtEngine, device="cpu"))


class Repository:
    """Calls the repository of a gateway."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    async def index(self, *, ready: bool = False) -> dict[str, tuple[str, str]]:
        request = pb.RepositoryIndexRequest(ready=ready).SerializeToString()
        reply = await self._channel.unary_unary(f"/{oip.SERVICE}/RepositoryIndex")(request, timeout=LONG_S)
        return {
            entry.name: (entry.version, entry.state) for entry in pb.RepositoryIndexResponse.FromString(reply).models
        }

    async def load(self, name: str, method: str = "RepositoryModelLoad") -> None:
        request = pb.RepositoryModelLoadRequest(model_name=name).SerializeToString()
        await self._channel.unary_unary(f"/{oip.SERVICE}/{method}")(request, timeout=LONG_S)

    async def refusal(self, name: str, method: str = "RepositoryModelLoad") -> tuple[grpc.StatusCode, str | None]:
        with pytest.raises(aio.AioRpcError) as refused:
            await self.load(name, method)
        return refused.value.code(), refused.value.details()


@asynccontextmanager
async def served(
    folder: Path, front: str = "native", *, loading: str = ON, servers_loading: str = ON, servers: int = 1
) -> AsyncIterator[tuple[Gateway, Caller, Repository]]:
    exports = folder / "exports"
    for artifact_format in ("saved_model", "mar"):
        placeholders.make_export(exports, "alpha", artifact_format)
    make_export(exports, "alpha", 1, content=linear(10))
    started = [await onnx_svc(exports, servers_loading) for _ in range(servers)]
    addresses = dict.fromkeys(("tfserving", "torchserve", "theirs"), NOWHERE)
    addresses["onnx"] = ",".join(f"127.0.0.1:{server.port}" for server in started)
    used = replace(settings(folder, DEPLOYMENTS, addresses, front), model_loading=loading)
    try:
        async with running(used) as (gateway, caller), aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            yield gateway, caller, Repository(channel)
    finally:
        for server in started:
            await server.close()


async def until_ready(gateway: Gateway, *, ready: bool) -> None:
    async with asyncio.timeout(LONG_S):
        while gateway.reloader.routes.chains["alpha"].ready() != ready:  # noqa: ASYNC110 - probes tell nobody
            await asyncio.sleep(0.05)


async def test_the_index_has_every_name_with_its_state(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as (gateway, _, repository):
        await until_ready(gateway, ready=True)
        others = {f"alpha@{stack}": ("1", "UNAVAILABLE") for stack in ("tfserving", "torchserve")}
        ready = {"alpha": ("1", "READY"), "alpha@onnx": ("1", "READY")}
        assert await repository.index() == ready | others | {"alpha@theirs": ("", "UNAVAILABLE")}
        assert await repository.index(ready=True) == ready


async def test_a_load_reaches_every_server_of_the_path(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front, servers=2) as (_, caller, repository):
        make_export(tmp_path / "exports", "alpha", 2, content=linear(20))
        await repository.load("alpha@onnx")
        x = Tensor("x", "FP32", (1, 2), bytes(8))
        asked = [servepath.encode_request(Request(name, 0, (x,)), name, 0) for name in ("alpha", "alpha@onnx") * 8]
        assert {(await caller.predict(payload)).served.version for payload in asked} == {2}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alpha@tfserving", "tfserving loads no model by a call: it follows its version folders"),
        ("alpha@torchserve", "torchserve loads no model by a call: its model API is off"),
        ("alpha@theirs", "theirs loads no model by a call: it is not ours: ask that server itself"),
    ],
)
async def test_a_stack_that_loads_nothing_by_a_call_says_what_to_do(tmp_path: Path, name: str, said: str) -> None:
    async with served(tmp_path) as (*_, repository):
        code, text = await repository.refusal(name)
        assert (code, (text or "")[: len(said)]) == (grpc.StatusCode.UNIMPLEMENTED, said)


async def test_loading_is_off_unless_gateway_and_server_are_told_otherwise(tmp_path: Path) -> None:
    said = "loading models by a call is off: start the gateway with --model-loading on"
    async with served(tmp_path, loading=OFF) as (*_, repository):
        assert await repository.refusal("alpha@onnx") == (grpc.StatusCode.UNIMPLEMENTED, said)
    said = "a server of alpha@onnx changes no model by a call: start it with --model-loading on, as one process"
    async with served(tmp_path / "again", servers_loading=OFF) as (*_, repository):
        assert await repository.refusal("alpha") == (grpc.StatusCode.UNIMPLEMENTED, said)


async def test_an_unloaded_model_leaves_its_path_not_ready_until_it_is_loaded_again(tmp_path: Path) -> None:
    async with served(tmp_path) as (gateway, _, repository):
        await until_ready(gateway, ready=True)
        await repository.load("alpha@onnx", "RepositoryModelUnload")
        await until_ready(gateway, ready=False)
        assert (await repository.index())["alpha"] == ("1", "UNAVAILABLE")
        await repository.load("alpha@onnx")
        await until_ready(gateway, ready=True)
        code, text = await repository.refusal("alpha@tfserving", "RepositoryModelUnload")
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert (text or "").startswith("tfserving unloads no model by a call: it follows its version folders")


async def test_an_unknown_name_is_not_found(tmp_path: Path) -> None:
    async with served(tmp_path) as (*_, repository):
        assert (await repository.refusal("beta"))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_version_that_a_server_cannot_load_is_unavailable_in_words_of_ours(tmp_path: Path) -> None:
    async with served(tmp_path) as (*_, repository):
        make_export(tmp_path / "exports", "alpha", 2, content=b"no model", current=False)
        said = "a server of alpha@onnx cannot load what is exported; its log says why"
        assert await repository.refusal("alpha@onnx") == (grpc.StatusCode.UNAVAILABLE, said)


@asynccontextmanager
async def in_front_of(folder: Path, address: str) -> AsyncIterator[Gateway]:
    """A gateway with one path, on onnx."""
    placeholders.make_export(folder / "exports", "alpha", "onnx")
    text = '[models.alpha]\ndefault = "onnx"\n[models.alpha.stacks.onnx]\n'
    async with running(replace(settings(folder, text, {"onnx": address}), model_loading=ON)) as (gateway, _):
        yield gateway


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[Repository]:
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield Repository(channel)


async def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    async with in_front_of(tmp_path, NOWHERE) as gateway, connected(gateway) as repository:
        code, _ = await repository.refusal("alpha")
        assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "refused", "said"),
    [
        (
            ModelLoading("", reason=oip_repository.CHANGING),
            (grpc.StatusCode.UNAVAILABLE, "MODEL_CHANGING"),
            "a server of alpha@onnx is loading or unloading the model for another call; try again later",
        ),
        (
            Draining(),
            (grpc.StatusCode.UNAVAILABLE, "BACKEND_DOWN"),
            "the model server cannot be reached, or lost the request",
        ),
    ],
)
async def test_a_server_that_cannot_just_now_is_not_said_to_have_a_bad_export(
    tmp_path: Path, error: ServeError, refused: tuple[grpc.StatusCode, str], said: str
) -> None:
    async def refuse(_: object) -> object:
        raise error

    server = aio.server()
    server.add_generic_rpc_handlers(
        [control.handlers(oip.SERVICE, {"RepositoryModelLoad": (pb.RepositoryModelLoadRequest, refuse)})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with in_front_of(tmp_path, f"127.0.0.1:{port}") as gateway, connected(gateway) as repository:
            with pytest.raises(aio.AioRpcError) as caught:
                await repository.load("alpha")
            assert (code_and_reason(caught.value), caught.value.details()) == (refused, said)
    finally:
        await server.stop(None)


class RepliesTooLate(asyncio.Protocol):
    """A server whose answer to a load is read in the very turn of the loop in which the load's caller is cancelled."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(frames.settings_of())

    def data_received(self, data: bytes) -> None:
        if oip_repository.LOAD.encode() in data:
            block = frames.literal(":status", "200") + frames.literal("grpc-status", "5")
            self._transport.write(frames.frame(frames.HEADERS, frames.END_STREAM | frames.END_HEADERS, 1, block))
            asyncio.get_running_loop().call_soon(self._cancel)


async def test_an_answer_that_comes_as_the_caller_goes_away_is_dropped_without_a_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[asyncio.Task[object]] = []

    def cancel() -> None:
        calls[0].cancel()

    server = await asyncio.get_running_loop().create_server(lambda: RepliesTooLate(cancel), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, in_front_of(tmp_path, f"127.0.0.1:{port}") as gateway:
        repository = of_gateway.Repository(gateway.reloader, ListenerLimits(), ON)
        request = pb.RepositoryModelLoadRequest(model_name="alpha")
        calls.append(asyncio.create_task(repository.load(request, LONG_S)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
