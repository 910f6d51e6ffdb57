"""The gateway's own gRPC client against real servers: grpcio's, pygrpc-native's, and some that misbehave."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any, Self

import grpc
import pygrpc_native.aio
import pytest
import uvloop
from grpc import StatusCode, aio

from servepath.http2.drivers import asyncio_channel
from servepath.http2.drivers.asyncio_channel import UnaryChannel
from servepath.http2.replies import Reply
from tests.limits import LONG_S
from tests.ports import free_ports
from tests.unit.servepath.http2.scripted_peer import answer, goodbye, settings

METHOD = "/test.Echo/Do"
LIMIT = 4 * 2**20
# grpcio's own bound is 1,000 calls that no handler has taken up; from there on it cancels some.
PENDING = (("grpc.server.max_pending_requests", 4000), ("grpc.server.max_pending_requests_hard_limit", 4000))
SERVERS: dict[str, Callable[..., Any]] = {"grpcio": aio.server, "native": pygrpc_native.aio.server}


class Echo:
    """A real server: gives messages back, unless they are words of command."""

    def __init__(self, kind: str, *options: tuple[str, int]) -> None:
        bounds = PENDING if kind == "grpcio" else ()
        self._server = SERVERS[kind](options=[("grpc.max_receive_message_length", LIMIT), *bounds, *options])
        handler = grpc.unary_unary_rpc_method_handler(self._do)
        self._server.add_registered_method_handlers("test.Echo", {"Do": handler})
        self.seen = 0
        self.hanging = 0
        self.cancelled = 0
        self.peers: set[str] = set()
        self.address = ""

    async def start(self, address: str = "127.0.0.1:0") -> "Echo":
        port = self._server.add_insecure_port(address)
        await self._server.start()
        self.address = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
        return self

    async def stop(self) -> None:
        await self._server.stop(0)

    async def _do(self, message: bytes, context: Any) -> bytes:
        self.seen += 1
        self.peers.add(context.peer())
        if message == b"hang":
            await self._hang()
        if message == b"left":
            return str(context.time_remaining()).encode()
        if message == b"metadata":
            return dict(context.invocation_metadata())["x-key"].encode()
        if message == b"refuse":
            context.set_trailing_metadata((("x-engine", "echo"), ("proof-bin", b"\0\xff")))
            await context.abort(StatusCode.PERMISSION_DENIED, "100 % \xfcber\n")
        return message

    async def _hang(self) -> None:
        self.hanging += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def ask(client: UnaryChannel, message: bytes = b"hello", timeout_s: float = LONG_S, **metadata: str) -> Reply:
    """Return the one end of a call."""
    ends: asyncio.Queue[Reply] = asyncio.Queue()
    client.call(message, monotonic() + timeout_s, tuple(metadata.items()), ends.put_nowait)
    reply = await asyncio.wait_for(ends.get(), timeout_s + 5)
    assert ends.empty()
    return reply


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.01)


def client_of(address: str) -> UnaryChannel:
    return UnaryChannel(address, METHOD, LIMIT)


@pytest.fixture(params=SERVERS)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Echo]:
    echo = await Echo(request.param).start()
    yield echo
    await echo.stop()


@pytest.fixture
async def client(server: Echo) -> AsyncIterator[UnaryChannel]:
    client = client_of(server.address)
    yield client
    await client.close()


async def echoes(client: UnaryChannel, count: int, size: int) -> int:
    """Send `count` requests of `size` bytes at once; return the number of correct echoes."""
    messages = [number.to_bytes(4, "big") * (size // 4) for number in range(count)]
    replies = await asyncio.gather(*(ask(client, message) for message in messages))
    assert {reply.code for reply in replies} == {StatusCode.OK}
    return sum(reply.payload == message for reply, message in zip(replies, messages, strict=True))


@pytest.mark.slow
async def test_two_thousand_calls_at_once_are_answered_each_with_its_own(client: UnaryChannel, server: Echo) -> None:
    assert await echoes(client, 2000, 8) == 2000
    assert (server.seen, len(server.peers)) == (2000, 1)


async def test_a_megabyte_goes_both_ways(client: UnaryChannel) -> None:
    assert await echoes(client, 20, 2**20) == 20


@pytest.mark.parametrize("kind", SERVERS)
def test_the_same_on_the_loop_that_the_gateway_runs_on(kind: str) -> None:
    async def both() -> tuple[int, int]:
        server = await Echo(kind).start()
        client = client_of(server.address)
        try:
            return await echoes(client, 2000, 8), await echoes(client, 20, 2**20)
        finally:
            await client.close()
            await server.stop()

    assert uvloop.run(both()) == (2000, 20)


async def test_the_deadline_is_told_to_the_server(client: UnaryChannel) -> None:
    assert 0.8 * LONG_S < float((await ask(client, b"left", LONG_S)).payload) <= LONG_S


@pytest.mark.parametrize("timeout_s", [0.0, -5.0])
async def test_a_deadline_that_has_passed_is_told_as_the_shortest_there_is(
    client: UnaryChannel, timeout_s: float
) -> None:
    ends: list[Reply] = []
    client.call(b"hang", monotonic() + timeout_s, (), ends.append)
    await until(lambda: bool(ends))
    assert ends[0].code in (StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED)


async def test_a_deadline_in_years_is_no_error(client: UnaryChannel) -> None:
    ends: list[Reply] = []
    client.call(b"hello", monotonic() + 1e12, (), ends.append)
    await until(lambda: bool(ends))
    assert ends[0].payload == b"hello"


async def test_metadata_go_to_the_server_and_the_known_ones_are_bounded(client: UnaryChannel) -> None:
    for number in range(100):
        reply = await ask(client, b"metadata", **{"x-key": "Bearer " + f"{number:d}" * 100})
        assert reply.payload == b"Bearer " + f"{number:d}".encode() * 100
    assert len(client._blocks) <= asyncio_channel.MAX_KNOWN_METADATA


async def test_metadata_that_are_not_ascii_are_refused_at_once(client: UnaryChannel) -> None:
    with pytest.raises(ValueError, match="ascii"):
        client.call(b"", monotonic() + 1, (("x-key", "\xfc"),), lambda _: None)


async def test_a_refusal_brings_its_code_its_text_and_its_metadata(client: UnaryChannel) -> None:
    reply = await ask(client, b"refuse")
    assert (reply.code, reply.details, reply.payload) == (StatusCode.PERMISSION_DENIED, "100 % \xfcber\n", b"")
    assert [pair for pair in reply.trailing if pair[0] == "x-engine"] == [("x-engine", "echo")]


async def test_an_unknown_method_is_unimplemented(server: Echo) -> None:
    client = UnaryChannel(server.address, "/test.Echo/Other", LIMIT)
    assert (await ask(client)).code is StatusCode.UNIMPLEMENTED
    await client.close()


async def test_a_reply_above_the_limit_is_refused_and_the_next_is_answered(server: Echo) -> None:
    client = UnaryChannel(server.address, METHOD, 1000)
    assert (await ask(client, bytes(1001))).code is StatusCode.RESOURCE_EXHAUSTED
    assert (await ask(client, bytes(1000))).payload == bytes(1000)
    await client.close()


async def test_a_cancelled_call_is_cancelled_at_the_server_and_never_ends_here(
    client: UnaryChannel, server: Echo
) -> None:
    ends: list[Reply] = []
    cancels = [client.call(b"hang", monotonic() + 60, (), ends.append) for _ in range(10)]
    await until(lambda: server.hanging == 10)
    for cancel in cancels:
        cancel()
        cancel()
    await until(lambda: server.cancelled == 10)
    assert (await ask(client)).code is StatusCode.OK
    assert ends == []


async def test_a_call_cancelled_before_there_is_a_connection_never_reaches_the_server(
    client: UnaryChannel, server: Echo
) -> None:
    ends: list[Reply] = []
    client.call(b"first", monotonic() + 5, (), ends.append)()
    assert (await ask(client)).code is StatusCode.OK
    assert (server.seen, ends) == (1, [])


async def test_a_cancel_after_the_end_does_nothing(client: UnaryChannel, server: Echo) -> None:
    ends: list[Reply] = []
    cancel = client.call(b"once", monotonic() + 5, (), ends.append)
    await until(lambda: bool(ends))
    cancel()
    assert (await ask(client)).code is StatusCode.OK
    assert (len(ends), server.cancelled) == (1, 0)


async def test_no_more_calls_at_once_than_the_server_allows() -> None:
    server = await Echo("grpcio", ("grpc.max_concurrent_streams", 3)).start()
    client = client_of(server.address)
    hung = [client.call(b"hang", monotonic() + 60, (), lambda _: None) for _ in range(3)]
    await until(lambda: server.hanging == 3)
    waiting = asyncio.gather(*(ask(client) for _ in range(50)))
    dropped: list[Reply] = []
    client.call(b"hang", monotonic() + 60, (), dropped.append)()
    hung[0]()
    assert {reply.code for reply in await waiting} == {StatusCode.OK}
    assert (server.seen, server.hanging, dropped) == (53, 3, [])
    await client.close()
    await server.stop()


async def keep_asking(client: UnaryChannel, enough: Callable[[], bool]) -> list[Reply]:
    replies = []
    while not enough():
        replies.append(await ask(client))
        await asyncio.sleep(0)
    return replies


@pytest.mark.slow
async def test_connections_that_the_server_retires_cost_no_call() -> None:
    # Every one lives for a second (grpcio varies that by a tenth): the calls cross several goodbyes.
    server = await Echo(
        "grpcio", ("grpc.max_connection_age_ms", 1000), ("grpc.max_connection_age_grace_ms", 5000)
    ).start()
    client = client_of(server.address)
    async with asyncio.timeout(LONG_S):
        asked = await asyncio.gather(*(keep_asking(client, lambda: len(server.peers) >= 3) for _ in range(8)))
    replies = [reply for part in asked for reply in part]
    assert [reply for reply in replies if reply.code is not StatusCode.OK] == []
    assert server.seen == len(replies)
    await client.close()
    await server.stop()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_that_stops_is_unavailable_and_found_again(kind: str) -> None:
    server = await Echo(kind).start(f"127.0.0.1:{free_ports(1)[0]}")
    client = client_of(server.address)
    hanging = asyncio.create_task(ask(client, b"hang"))
    await until(lambda: server.hanging == 1)
    await server.stop()
    assert (await hanging).code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
    for _ in range(20):
        assert (await ask(client)).code is StatusCode.UNAVAILABLE
    again = await Echo(kind).start(server.address)
    while (reply := await ask(client)).code is not StatusCode.OK:
        assert reply.code is StatusCode.UNAVAILABLE
        await asyncio.sleep(0.01)
    await client.close()
    await again.stop()


@pytest.mark.parametrize("kind", SERVERS)
async def test_ipv6_addresses_are_called(kind: str) -> None:
    server = await Echo(kind).start("[::1]:0")
    client = client_of(server.address)
    assert (await ask(client)).payload == b"hello"
    await client.close()
    await server.stop()


async def test_unix_sockets_are_called(tmp_path: Path) -> None:
    server = await Echo("grpcio").start(f"unix:{tmp_path}/socket")
    client = client_of(server.address)
    assert (await ask(client)).payload == b"hello"
    await client.close()
    await server.stop()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "nowhere", "127.0.0.1:http", "127.0.0.1:99999", "unix:/nowhere", ""]
)
async def test_an_address_where_nobody_is_is_unavailable(address: str) -> None:
    client = client_of(address)
    replies = await asyncio.gather(*(ask(client) for _ in range(100)))
    assert {reply.code for reply in replies} == {StatusCode.UNAVAILABLE}
    assert (await ask(client)).code is StatusCode.UNAVAILABLE
    await client.close()


class Scripted:
    """A server that treats each connection as `serve` says."""

    def __init__(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    ) -> None:
        self._serve = serve
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()


async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def hangs_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    pass


async def speaks_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def hangs_up_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(settings())
    await asks(reader, 1)
    writer.write(answer(1, b"half an answer")[:30])


async def says_goodbye_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(settings() + goodbye(0))


async def asks(reader: asyncio.StreamReader, count: int) -> None:
    """Read until as many calls have been asked."""
    read = b""
    while read.count(b"question") < count:
        if not (more := await reader.read(2**16)):
            raise ConnectionResetError
        read += more


@pytest.mark.parametrize("serve", [says_nothing, hangs_up, speaks_http1, hangs_up_in_the_middle, says_goodbye_at_once])
async def test_a_server_that_is_none_is_unavailable(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_channel, "CONNECT_TIMEOUT_S", 0.2)
    async with Scripted(serve) as server:
        client = client_of(server.address)
        for _ in range(3):
            assert (await ask(client, b"question")).code is StatusCode.UNAVAILABLE
        await client.close()


async def test_calls_that_a_leaving_server_has_not_seen_are_asked_again_once() -> None:
    async def leaves_then_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(settings())
        await asks(reader, 3)
        if server.connections == 1:
            writer.write(goodbye(1) + answer(1, b"first"))
        else:
            writer.write(answer(1, b"again") + answer(3, b"again"))
        await reader.read()

    async with Scripted(leaves_then_answers) as server:
        client = client_of(server.address)
        calls = [asyncio.create_task(ask(client, b"question")) for _ in range(3)]
        assert (await calls[0]).payload == b"first"
        calls.append(asyncio.create_task(ask(client, b"question")))
        assert [(await call).payload for call in calls[1:3]] == [b"again", b"again"]
        assert server.connections == 2
        await client.close()
        assert (await calls[3]).code is StatusCode.UNAVAILABLE


async def test_a_call_that_two_servers_have_not_seen_is_unavailable() -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(settings())
        await asks(reader, 1)
        writer.write(goodbye(0))
        await reader.read()

    async with Scripted(leaves) as server:
        client = client_of(server.address)
        assert (await ask(client, b"question")).code is StatusCode.UNAVAILABLE
        assert server.connections == 2
        await client.close()


async def test_a_server_that_opens_and_leaves_is_not_stormed() -> None:
    async def has_no_room(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(settings(streams=0))
        await writer.drain()
        await asyncio.sleep(0.01)

    async with Scripted(has_no_room) as server:
        client = client_of(server.address)
        ends: list[Reply] = []
        began = monotonic()
        cancel = client.call(b"question", began + LONG_S, (), ends.append)
        await until(lambda: server.connections >= 6)
        assert monotonic() - began >= 4 * asyncio_channel.MIN_LIFE_S
        cancel()
        await client.close()
        assert ends == []


async def test_closing_ends_calls_on_the_connection_and_before_it() -> None:
    async with Scripted(says_nothing) as silent:
        client = client_of(silent.address)
        waiting = asyncio.create_task(ask(client))
        await until(lambda: silent.connections == 1)
        await client.close()
        assert (await waiting).code is StatusCode.UNAVAILABLE
        assert (await ask(client)).code is StatusCode.UNAVAILABLE


async def test_closing_ends_calls_that_the_server_works_on(server: Echo) -> None:
    client = client_of(server.address)
    hanging = asyncio.create_task(ask(client, b"hang"))
    await until(lambda: server.hanging == 1)
    await client.close()
    assert (await hanging).code is StatusCode.UNAVAILABLE
    await until(lambda: server.cancelled == 1)


async def test_a_host_that_vanishes_is_given_up(client: UnaryChannel) -> None:
    await ask(client)
    connection = client._connection
    assert connection is not None
    assert connection._out.output is not None
    own = connection._out.output.get_extra_info("socket")
    assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == asyncio_channel.UNCONFIRMED_MS


async def test_an_ended_call_is_held_by_nobody(server: Echo) -> None:
    client = client_of(server.address)

    class Caller:
        def __init__(self) -> None:
            self.ended = asyncio.Event()
            self.cancel = client.call(b"hello", monotonic() + 20, (), self.done)

        def done(self, _: Reply) -> None:
            self.ended.set()

    caller = Caller()
    await asyncio.wait_for(caller.ended.wait(), LONG_S)
    left = weakref.ref(caller)
    gc.disable()
    try:
        del caller
        assert left() is None
    finally:
        gc.enable()
    await client.close()
