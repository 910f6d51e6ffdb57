"""The grpcio front and the control RPCs beside it, through a real socket."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Self

import grpc
import pytest
from grpc import aio

from servepath_pb.servepath.oip.oip_pb2 import ServerLiveRequest, ServerLiveResponse
from services.serving import control, grpcio_front
from services.serving.front import PortBusyError, RawCall
from services.serving.grpcio_front import FrontLimits, GrpcioFront
from services.wire.errors import ModelUnknown, Overloaded
from tests.oip_client import code_and_reason

HOT = "/test.Service/Hot"
Rpc = Callable[[Any], Awaitable[Any]]


async def live(_: ServerLiveRequest) -> ServerLiveResponse:
    return ServerLiveResponse(live=True)


async def unknown(_: ServerLiveRequest) -> ServerLiveResponse:
    raise ModelUnknown("no such model")


async def broken(_: ServerLiveRequest) -> ServerLiveResponse:
    raise RuntimeError("secret")


class Running:
    """A front with one hot method and one control RPC, and a channel to it."""

    def __init__(self, deliver: Callable[[list[RawCall]], None], rpc: Rpc = live, port: int = 0) -> None:
        self._port = port
        handlers = control.handlers("test.Service", {"Control": (ServerLiveRequest, rpc)})
        self.front = GrpcioFront(
            f"127.0.0.1:{port}",
            (HOT,),
            deliver,
            (lambda server: server.add_generic_rpc_handlers((handlers,)),),
            FrontLimits(default_deadline_s=15),
        )

    async def __aenter__(self) -> Self:
        self.port = await self.front.start()
        self.channel = aio.insecure_channel(f"127.0.0.1:{self.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.front.stop(0)


def answer(raws: list[RawCall]) -> None:
    for raw in raws:
        raw.reply(raw.payload[::-1])


def test_a_hot_call_arrives_as_bytes_with_its_metadata_and_goes_back_as_bytes() -> None:
    seen: list[RawCall] = []

    def keep(raws: list[RawCall]) -> None:
        seen.extend(raws)
        answer(raws)

    async def main() -> bytes:
        async with Running(keep) as running:
            metadata = (("x-key", "first"), ("x-key", "last"), ("x-bytes-bin", b"\0"))
            reply: bytes = await running.channel.unary_unary(HOT)(b"abc", timeout=5, metadata=metadata)
            assert seen[0].metadata["x-key"] == "last"
            assert "x-bytes-bin" not in seen[0].metadata
            return reply

    assert asyncio.run(main()) == b"cba"
    assert (seen[0].method, seen[0].payload) == (HOT, b"abc")


def test_only_the_first_end_of_a_call_counts() -> None:
    def twice(raws: list[RawCall]) -> None:
        raws[0].reply(b"first")
        raws[0].reply(b"second")
        raws[0].fail(Overloaded("late"))

    async def main() -> bytes:
        async with Running(twice) as running:
            reply: bytes = await running.channel.unary_unary(HOT)(b"", timeout=5)
            return reply

    assert asyncio.run(main()) == b"first"


def test_a_refusal_carries_code_text_and_reason() -> None:
    async def main() -> aio.AioRpcError:
        async with Running(lambda raws: raws[0].fail(Overloaded("too\nmuch"))) as running:
            with pytest.raises(aio.AioRpcError) as caught:
                await running.channel.unary_unary(HOT)(b"", timeout=5)
            return caught.value

    error = asyncio.run(main())
    assert code_and_reason(error) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.details() == r"too\nmuch"


@pytest.mark.parametrize("how", ["cancels", "runs out of time"])
def test_a_caller_that_goes_away_is_noticed_and_the_server_answers_on(how: str) -> None:
    async def main() -> None:
        arrived, gone = asyncio.Event(), asyncio.Event()

        def hold(raws: list[RawCall]) -> None:
            if raws[0].payload:
                answer(raws)
                return
            raws[0].on_cancel(gone.set)
            arrived.set()

        async with Running(hold) as running:
            call = running.channel.unary_unary(HOT)(b"", timeout=0.2 if how == "runs out of time" else 10)
            await arrived.wait()
            if how == "cancels":
                call.cancel()
            await asyncio.wait_for(gone.wait(), 10)
            assert await running.channel.unary_unary(HOT)(b"ab", timeout=5) == b"ba"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("rpc", "refusal"),
    [
        (unknown, (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN", "no such model")),
        (broken, (grpc.StatusCode.INTERNAL, "INTERNAL", "internal error; the server's log has the cause")),
    ],
)
def test_what_a_control_rpc_raises_is_mapped_and_a_faults_own_text_stays_in_the_log(
    rpc: Rpc, refusal: tuple[grpc.StatusCode, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> aio.AioRpcError:
        async with Running(answer, rpc) as running:
            with pytest.raises(aio.AioRpcError) as caught:
                await running.channel.unary_unary("/test.Service/Control")(b"", timeout=5)
            return caught.value

    with caplog.at_level(logging.ERROR):
        error = asyncio.run(main())
    assert (*code_and_reason(error), error.details()) == refusal
    assert ("secret" in caplog.text) == (rpc is broken)


def test_hot_and_control_methods_of_one_service_live_side_by_side() -> None:
    async def main() -> None:
        async with Running(answer) as running:
            assert await running.channel.unary_unary(HOT)(b"ab", timeout=5) == b"ba"
            reply = await running.channel.unary_unary("/test.Service/Control")(b"", timeout=5)
            assert ServerLiveResponse.FromString(reply).live

    asyncio.run(main())


def test_two_servers_do_not_share_a_port() -> None:
    async def main() -> None:
        async with Running(answer) as running:
            second = Running(answer, port=running.port)
            with pytest.raises(PortBusyError, match=f"127.0.0.1:{running.port}: the port is in use"):
                await second.front.start()
            await second.front.stop(0)

    asyncio.run(main())


def test_who_connects_and_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpcio_front, "HANDSHAKE_MS", 200)

    async def main() -> bytes:
        async with Running(answer) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"PRI * HTTP/2.0")  # half of what HTTP/2 begins with
            async with asyncio.timeout(5):
                while await reader.read(1024):
                    pass
            writer.close()
            reply: bytes = await running.channel.unary_unary(HOT)(b"abc", timeout=5)
            return reply

    assert asyncio.run(main()) == b"cba"
