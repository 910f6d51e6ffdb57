"""Clients on blocking sockets against grpcio's server: threads that send, one that reads."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from servepath.http2.client import NoHttp2Error
from servepath.http2.drivers.blocking_driver import BlockingLink
from servepath.http2.frames import request_head
from servepath.http2.replies import Reply
from tests.limits import LONG_S

BLOCK = request_head("/test.Echo/Call", "test")
LIMIT = 2**23


@contextmanager
def serving(address: str, handle: Callable[[bytes, grpc.ServicerContext], bytes]) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield address if address.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def ask(link: BlockingLink, message: bytes) -> Future[Reply]:
    reply: Future[Reply] = Future()
    link.send(BLOCK, message, reply.set_result)
    return reply


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_calls_of_several_threads_are_answered_each_with_its_own(kind: str, tmp_path: Path) -> None:
    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/socket"
    messages = [bytes([number]) * size for number in range(50) for size in (1, 70_000)]
    with serving(address, lambda message, _: message) as at, ThreadPoolExecutor(4) as senders:
        link = BlockingLink(at, LIMIT, LONG_S)
        replies = list(senders.map(lambda message: ask(link, message), messages))
        assert [reply.result(LONG_S).payload for reply in replies] == messages
        link.close()


def test_calls_are_unavailable_once_the_connection_is_lost() -> None:
    asked, leave = threading.Event(), threading.Event()

    def hang(message: bytes, _: grpc.ServicerContext) -> bytes:
        asked.set()
        leave.wait(LONG_S)
        return message

    with serving("127.0.0.1:0", hang) as at:
        link = BlockingLink(at, LIMIT, LONG_S)
        reply = ask(link, b"x")
        assert asked.wait(LONG_S)
        link.close()
        assert reply.result(LONG_S).code is StatusCode.UNAVAILABLE
        assert ask(link, b"x").result(LONG_S).code is StatusCode.UNAVAILABLE
        leave.set()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_is_no_grpc_server_is_said(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(NoHttp2Error, match="does not speak HTTP/2"):
            BlockingLink(f"127.0.0.1:{listening.getsockname()[1]}", LIMIT, LONG_S)
