"""The load test's client against grpcio's server: what comes back, and what becomes of calls without an answer."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import gevent
import gevent.socket
import grpc
import pytest

from loadtest.connection import Client, greet
from servepath.http2.client import NoHttp2Error
from servepath.http2.frames import MAX_CONCURRENT_STREAMS, settings_of
from tests.limits import LONG_S
from tests.ports import free_ports

METHOD = "/test.Echo/Call"
Handle = Callable[[bytes, grpc.ServicerContext], bytes]


@contextmanager
def serving(handle: Handle, port: int = 0, **options: int) -> Iterator[str]:
    settings = [(f"grpc.{name}", value) for name, value in {"max_receive_message_length": -1, **options}.items()]
    server = grpc.server(ThreadPoolExecutor(16), options=settings)
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture
def client_of() -> Iterator[Callable[[str], Client]]:
    made: list[Client] = []

    def make(address: str) -> Client:
        made.append(Client(address, METHOD))
        return made[-1]

    yield make
    for client in made:
        client.close()


def echo(request: bytes, _: grpc.ServicerContext) -> bytes:
    return request


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_messages_of_any_size_come_back_whole(client_of: Callable[[str], Client], size: int) -> None:
    message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with serving(echo) as address:
        reply, _ = client_of(address).call(message, (), 20)
        assert (reply.code, reply.payload) == (grpc.StatusCode.OK, message)


def test_the_server_is_told_metadata_and_deadline_and_its_trailing_metadata_comes_back(
    client_of: Callable[[str], Client],
) -> None:
    def handle(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("engine", "e 1"),))
        assert 1 < context.time_remaining() <= 20
        return dict(context.invocation_metadata())["key"].encode()

    with serving(handle) as address:
        reply, _ = client_of(address).call(b"", (("key", "secret"),), 20)
        assert reply.payload == b"secret"
        assert ("engine", "e 1") in reply.trailing


def test_calls_beyond_what_the_server_allows_at_once_wait_for_their_turn(client_of: Callable[[str], Client]) -> None:
    with serving(echo, max_concurrent_streams=2) as address:
        client = client_of(address)
        calls = [gevent.spawn(client.call, b"%d" % number, (), 20) for number in range(50)]
        gevent.joinall(calls, raise_error=True)
        assert [call.value.reply.payload for call in calls] == [b"%d" % number for number in range(50)]


def test_a_refusal_keeps_its_code(client_of: Callable[[str], Client]) -> None:
    def handle(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    with serving(handle) as address:
        reply, _ = client_of(address).call(b"", (), 20)
        assert (reply.code, reply.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def test_a_server_that_takes_too_long_is_given_up_and_the_connection_goes_on(
    client_of: Callable[[str], Client],
) -> None:
    def handle(request: bytes, _: grpc.ServicerContext) -> bytes:
        time.sleep(0.5 if request == b"slow" else 0)
        return request

    with serving(handle) as address:
        client = client_of(address)
        reply, _ = client.call(b"slow", (), 0.1)
        assert reply.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert client.call(b"quick", (), 20).reply.payload == b"quick"


def test_nobody_there_is_unavailable_and_anyone_who_comes_later_is_found(client_of: Callable[[str], Client]) -> None:
    with serving(echo, port=free_ports(1)[0]) as address:
        client = client_of(address)
        assert client.call(b"1", (), 20).reply.payload == b"1"
    assert client.call(b"2", (), 20).reply.code is grpc.StatusCode.UNAVAILABLE
    with serving(echo, port=int(address.rpartition(":")[2])):
        assert client.call(b"3", (), 20).reply.payload == b"3"


def test_who_does_not_greet_in_time_is_no_grpc_server_and_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        read = thread.submit(read_to_the_end, listening)
        with pytest.raises(NoHttp2Error, match=r"no greeting within 0\.2 s"):
            greet(f"127.0.0.1:{listening.getsockname()[1]}", 0.2)
        assert read.result(LONG_S).startswith(b"PRI * HTTP/2.0")


def read_to_the_end(listening: socket.socket) -> bytes:
    connection, _ = listening.accept()
    with connection:
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def test_calls_in_flight_when_the_server_goes_are_unavailable(client_of: Callable[[str], Client]) -> None:
    arrived: list[bytes] = []

    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        arrived.append(request)
        while context.is_active():
            time.sleep(0.01)
        return request

    with serving(handle) as address:
        client = client_of(address)
        calls = [gevent.spawn(client.call, b"", (), 20) for _ in range(5)]
        while len(arrived) < len(calls):
            gevent.sleep(0.01)
    gevent.joinall(calls, timeout=LONG_S, raise_error=True)
    assert {call.value.reply.code for call in calls} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_calls_that_wait_for_their_turn_are_unavailable_when_the_server_is_killed(
    client_of: Callable[[str], Client],
) -> None:
    with gevent.socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = client_of(f"127.0.0.1:{listening.getsockname()[1]}")
        calls = [gevent.spawn(client.call, b"", (), LONG_S) for _ in range(3)]
        connection, _ = listening.accept()
        connection.sendall(settings_of((MAX_CONCURRENT_STREAMS, 1)))
        gevent.sleep(0.3)  # one call is sent by then; were it none, the others would not wait, and end likewise
        connection.close()
        listening.close()
        gevent.joinall(calls, timeout=LONG_S, raise_error=True)
    assert {call.value.reply.code for call in calls} == {grpc.StatusCode.UNAVAILABLE}
