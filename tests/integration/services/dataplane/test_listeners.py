"""Each listener and the control RPCs beside it, through a real socket."""

import asyncio
import logging
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Self

import grpc
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from servepath.protocols.errors import ModelNotFound, Overloaded, ServeError
from servepath_pb.servepath.oip.oip_pb2 import ServerLiveRequest, ServerLiveResponse
from services.dataplane import control
from services.dataplane.listener import ListenerLimits, PortBusyError, RawCall
from services.dataplane.listeners import LISTENERS
from tests.limits import LONG_S
from tests.oip_client import code_and_reason

HOT = "/test.Service/Hot"
CONTROL = "/test.Service/Control"
LIMITS = ListenerLimits(max_message_bytes=10_000, default_deadline_s=15, max_deadline_s=120)
Rpc = Callable[[Any], Awaitable[Any]]
Dispatch = Callable[[list[RawCall]], None]


async def live(_: ServerLiveRequest) -> ServerLiveResponse:
    return ServerLiveResponse(live=True)


async def unknown(_: ServerLiveRequest) -> ServerLiveResponse:
    raise ModelNotFound("no such model")


async def broken(_: ServerLiveRequest) -> ServerLiveResponse:
    raise RuntimeError("secret")


def answer(raws: list[RawCall]) -> None:
    for raw in raws:
        raw.reply(raw.payload[::-1])


async def until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(1024):
        pass


class Running:
    """A listener with one hot method, one control RPC and health, and a channel to it."""

    def __init__(
        self, name: str, dispatch: Dispatch = answer, rpc: Rpc = live, port: int = 0, limits: ListenerLimits = LIMITS
    ) -> None:
        self.name = name
        self.health = health.aio.HealthServicer()
        handlers = control.handlers("test.Service", {"Control": (ServerLiveRequest, rpc)})
        self.front = LISTENERS[name](
            f"127.0.0.1:{port}",
            (HOT,),
            dispatch,
            (
                lambda server: server.add_generic_rpc_handlers((handlers,)),
                lambda server: health_pb2_grpc.add_HealthServicer_to_server(self.health, server),
            ),
            limits,
        )

    async def __aenter__(self) -> Self:
        self.port = await self.front.start()
        self.channel = aio.insecure_channel(f"127.0.0.1:{self.port}", (("grpc.use_local_subchannel_pool", 1),))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.front.stop(0)

    def call(self, payload: bytes = b"ab", timeout: float = LONG_S, *, method: str = HOT, **more: Any) -> Any:
        return self.channel.unary_unary(method)(payload, timeout=timeout, **more)

    async def refusal(self, *arguments: Any, **more: Any) -> aio.AioRpcError:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.call(*arguments, **more)
        return caught.value


class Held:
    """A `Dispatch` that keeps calls until the test ends them."""

    def __init__(self) -> None:
        self.raws: list[RawCall] = []
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()

    def __call__(self, raws: list[RawCall]) -> None:
        for raw in raws:
            raw.on_cancel(self.gone.set)
        self.raws += raws
        self.arrived.set()


async def test_a_hot_call_arrives_as_bytes_with_its_metadata_and_goes_back_as_bytes(front: str) -> None:
    seen: list[RawCall] = []

    def keep(raws: list[RawCall]) -> None:
        seen.extend(raws)
        answer(raws)

    async with Running(front, keep) as running:
        metadata = (("x-key", "first"), ("x-key", "last"), ("x-bytes-bin", b"\0"))
        assert await running.call(b"abc", metadata=metadata) == b"cba"
        assert seen[0].metadata["x-key"] == "last"
        assert "x-bytes-bin" not in seen[0].metadata
    assert (seen[0].method, seen[0].payload) == (HOT, b"abc")


async def test_many_calls_at_once_are_each_given_their_own_answer(front: str) -> None:
    async with Running(front) as running:
        calls = [running.call(f"{number:04}".encode()) for number in range(1000)]
        assert await asyncio.gather(*calls) == [f"{number:04}"[::-1].encode() for number in range(1000)]


@pytest.mark.parametrize(("timeout_s", "granted_s"), [(None, 15), (1e8, 120), (100, 100)])
async def test_a_call_without_a_deadline_or_with_too_late_a_one_is_given_one(
    front: str, timeout_s: float | None, granted_s: float
) -> None:
    deadlines: list[float] = []

    def keep(raws: list[RawCall]) -> None:
        deadlines.extend(raw.deadline for raw in raws)
        answer(raws)

    async with Running(front, keep) as running:
        before = monotonic()
        await running.call(timeout=timeout_s)
        # gRPC writes a timeout in eight digits, rounded up to a unit of at most a thousandth of it.
        assert before + granted_s - 1 < deadlines[0] <= monotonic() + granted_s * 1.01


async def test_only_the_first_end_of_a_call_counts(front: str) -> None:
    def twice(raws: list[RawCall]) -> None:
        raws[0].reply(b"first")
        raws[0].reply(b"second")
        raws[0].fail(Overloaded("late"))

    async with Running(front, twice) as running:
        assert await running.call() == b"first"


async def test_a_refusal_carries_code_text_and_reason(front: str) -> None:
    async with Running(front, lambda raws: raws[0].fail(Overloaded("too\nmuch"))) as running:
        error = await running.refusal()
    assert code_and_reason(error) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.details() == r"too\nmuch"


async def test_a_refusal_that_cannot_be_written_is_internal_and_says_nothing(
    front: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(front, lambda raws: raws[0].fail(ServeError("secret"))) as running:
        error = await running.refusal()
    assert (error.code(), error.details()) == (
        StatusCode.INTERNAL,
        "internal error; the server's log has the cause",
    )
    assert "KeyError" in caplog.text  # ServeError itself has no code


@pytest.mark.parametrize("how", ["cancels", "runs out of time"])
async def test_a_caller_that_goes_away_is_noticed_and_the_server_answers_on(front: str, how: str) -> None:
    held = Held()

    def hold(raws: list[RawCall]) -> None:
        (answer if raws[0].payload else held)(raws)

    limit_s = 0.2 if how == "runs out of time" else LONG_S
    async with Running(front, hold) as running:
        call = running.call(b"", limit_s)
        while not held.arrived.is_set():
            if call.done():  # on a busy machine its time may have run out on the way
                call = running.call(b"", limit_s)
            await asyncio.sleep(0.01)
        if how == "cancels":
            call.cancel()
        await asyncio.wait_for(held.gone.wait(), LONG_S)
        assert await running.call() == b"ba"


@pytest.mark.parametrize(
    ("rpc", "refusal"),
    [
        (unknown, (StatusCode.NOT_FOUND, "MODEL_UNKNOWN", "no such model")),
        (broken, (StatusCode.INTERNAL, "INTERNAL", "internal error; the server's log has the cause")),
    ],
)
async def test_what_a_control_rpc_raises_is_mapped_and_a_faults_own_text_stays_in_the_log(
    front: str, rpc: Rpc, refusal: tuple[StatusCode, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with Running(front, answer, rpc) as running:
            error = await running.refusal(b"", method=CONTROL)
    assert (*code_and_reason(error), error.details()) == refusal
    assert ("secret" in caplog.text) == (rpc is broken)


async def test_hot_and_control_methods_of_one_service_live_side_by_side(front: str) -> None:
    async with Running(front) as running:
        assert await running.call() == b"ba"
        assert ServerLiveResponse.FromString(await running.call(b"", method=CONTROL)).live


async def test_health_can_be_checked_and_watched(front: str) -> None:
    statuses = health_pb2.HealthCheckResponse
    async with Running(front) as running:
        stub = health_pb2_grpc.HealthStub(running.channel)
        await running.health.set("m", statuses.SERVING)
        request = health_pb2.HealthCheckRequest(service="m")
        assert (await stub.Check(request, timeout=LONG_S)).status == statuses.SERVING
        watch = stub.Watch(request, timeout=LONG_S)
        assert (await watch.read()).status == statuses.SERVING
        await running.health.set("m", statuses.NOT_SERVING)
        assert (await watch.read()).status == statuses.NOT_SERVING
        watch.cancel()


@pytest.mark.parametrize("method", ["/test.Service/Cold", "/test.Nobody/Hot", "/Hot", "/test.Service/hot"])
async def test_an_unknown_method_is_unimplemented(front: str, method: str) -> None:
    async with Running(front) as running:
        assert (await running.refusal(method=method)).code() is StatusCode.UNIMPLEMENTED
        assert await running.call() == b"ba"


@pytest.mark.parametrize("method", [HOT, CONTROL])
async def test_a_message_above_the_limit_is_refused_with_its_size_and_the_limit(front: str, method: str) -> None:
    async with Running(front) as running:
        error = await running.refusal(bytes(10_001), method=method)
        assert code_and_reason(error) == (StatusCode.RESOURCE_EXHAUSTED, "")
        assert error.details() == "SERVER: Received message larger than max (10001 vs. 10000)"
        assert await running.call(b"a" * 10_000) == b"a" * 10_000


@pytest.mark.parametrize("method", [HOT, CONTROL])
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_message_is_unimplemented(front: str, method: str, compression: grpc.Compression) -> None:
    async with Running(front) as running:
        error = await running.refusal(bytes(5000), method=method, compression=compression)
        assert error.code() is StatusCode.UNIMPLEMENTED
        assert await running.call() == b"ba"


@pytest.mark.parametrize("method", [HOT, CONTROL])
async def test_metadata_above_the_limit_is_refused(front: str, method: str) -> None:
    async with Running(front) as running:
        # grpcio keeps the limit on a connection once its settings are acknowledged, so not for the very first call.
        assert await running.call(b"", method=CONTROL) == ServerLiveResponse(live=True).SerializeToString()
        for length in (9_000, 20_000, 100_000):
            error = await running.refusal(method=method, metadata=(("x-long", "x" * length),))
            assert error.code() is StatusCode.RESOURCE_EXHAUSTED
            assert str(error.details()).startswith("received metadata size exceeds")
        assert await running.call(metadata=(("x-long", "x" * 7000),)) == b"ba"


async def test_metadata_far_above_the_limit_ends_the_call_and_the_next_one_is_answered(front: str) -> None:
    codes = {"native": {StatusCode.UNAVAILABLE}, "grpcio": {StatusCode.RESOURCE_EXHAUSTED}}
    async with Running(front) as running:
        for length in (150_000, 1_000_000):
            error = await running.refusal(metadata=(("x-long", "x" * length),))
            assert error.code() in codes[front]
        assert await running.call(wait_for_ready=True) == b"ba"


async def test_a_hot_call_without_a_message_is_an_error(front: str) -> None:
    codes = {"native": StatusCode.INTERNAL, "grpcio": StatusCode.DEADLINE_EXCEEDED}
    limits_s = {"native": LONG_S, "grpcio": 0.5}
    async with Running(front) as running:
        with pytest.raises(aio.AioRpcError) as caught:
            await running.channel.stream_unary(HOT)(iter(()), timeout=limits_s[front])
        assert caught.value.code() is codes[front]
        assert await running.call() == b"ba"


@pytest.mark.parametrize("other", tuple(LISTENERS))
async def test_two_servers_do_not_share_a_port(front: str, other: str) -> None:
    async with Running(front) as running:
        second = Running(other, port=running.port)
        with pytest.raises(PortBusyError, match=f"127.0.0.1:{running.port}: the port is in use"):
            await second.front.start()
        await second.front.stop(0)
        assert await running.call() == b"ba"


async def test_servers_that_ask_for_it_share_a_port(front: str) -> None:
    sharing = replace(LIMITS, share_port=True)
    async with (
        Running(front, limits=sharing) as running,
        Running(front, port=running.port, limits=sharing) as second,
    ):
        assert second.port == running.port
        assert await running.call() == await second.call() == b"ba"


async def test_a_front_that_was_never_started_can_be_stopped(front: str) -> None:
    await Running(front).front.stop(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stop_gives_calls_in_flight_their_grace_and_refuses_new_ones(front: str) -> None:
    codes = {"native": {StatusCode.UNAVAILABLE}, "grpcio": {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}}
    held = Held()
    async with Running(front, held) as running:
        calls = [running.call(timeout=LONG_S) for _ in range(200)]
        while len(held.raws) < len(calls):
            held.arrived.clear()
            await held.arrived.wait()
        stopping = asyncio.create_task(running.front.stop(10))
        await asyncio.sleep(0)
        assert (await running.refusal()).code() in codes[front]
        assert not stopping.done()
        answer(held.raws)
        assert await asyncio.gather(*calls) == [b"ba"] * 200
        await stopping
    assert not held.gone.is_set()


async def test_a_call_that_outlasts_the_grace_is_cancelled(front: str) -> None:
    held = Held()
    async with Running(front, held) as running:
        call = running.call(timeout=LONG_S)
        await held.arrived.wait()
        await running.front.stop(0.1)
        await asyncio.wait_for(held.gone.wait(), LONG_S)
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}


@pytest.mark.parametrize("folder", ["a" * 100, "with #, ? and %20", "none"])
async def test_control_calls_need_no_temporary_folder(
    front: str, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder != "none":
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / folder))
    async with Running(front) as running:
        reply = await running.channel.unary_unary(CONTROL)(b"", timeout=LONG_S)
    assert ServerLiveResponse.FromString(reply).live


async def test_control_calls_ask_no_proxy(front: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Running(front) as running:
        channel = aio.insecure_channel(f"127.0.0.1:{running.port}", (("grpc.enable_http_proxy", 0),))
        reply = await channel.unary_unary(CONTROL)(b"", timeout=LONG_S)
        await channel.close()
    assert ServerLiveResponse.FromString(reply).live


async def test_nothing_is_left_of_a_stopped_front(front: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left() -> list[Path]:
        return list(tmp_path.iterdir())

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with Running(front) as running:
        await running.call()
        busy = Running(front, port=running.port).front
        with pytest.raises(PortBusyError):
            await busy.start()
        await busy.stop(0)
        await running.front.stop(0)
        await running.front.stop(0)
        async with Running(front, port=running.port) as again:
            assert await again.call() == b"ba"
    assert left() == []
    assert "front" not in {thread.name for thread in threading.enumerate()}


async def test_who_connects_and_says_nothing_disturbs_nobody_and_is_let_go_in_time(front: str) -> None:
    async with Running(front, limits=replace(LIMITS, handshake_s=0.2)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"PRI * HTTP/2.0")  # half of what HTTP/2 begins with
        # A busy machine may take longer for the good connection, too: the client makes another.
        assert await running.call(b"abc", wait_for_ready=True) == b"cba"
        await asyncio.wait_for(until_closed(reader), LONG_S)
        writer.close()
