"""One gRPC connection for many calls at once under gevent: the gateway's HTTP/2 client, its socket watched by the hub.

grpcio under gevent waits for each reply in a thread: a request to the no-op server takes 0.59 ms, where h2load needs
0.16 ms and this 0.14 ms (docs/adr/0013-open-loop.md). So what is measured is the server. When a reply came is read from
the clock as its last bytes are parsed.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import gevent
import gevent.event
import gevent.lock
import gevent.socket
import hpack
from gevent.hub import get_hub
from grpc import StatusCode

from servepath.http2.client import Connection
from servepath.http2.replies import Reply
from servepath.protocols.addresses import authority, host_port, socket_path

Metadata = tuple[tuple[str, str], ...]
MAX_REPLY_BYTES = 64 * 2**20
READ_BYTES = 2**16
READ, WRITE = 1, 2
# A server may refuse calls that it counts as one too many while their predecessors end, or when it says goodbye.
# It is given a moment more each time: asked again at once, it has had none to end them.
MAX_NOT_PROCESSED, PAUSE_S = 10, 0.001
# Unsent bytes above which the connection is told to wait.
WRITE_HIGH = 2**20


class NoHttp2Error(ConnectionError):
    """Something took the connection, and did not greet as a gRPC server does."""


class Answered(NamedTuple):
    """A reply, and time.perf_counter_ns() when it was there."""

    reply: Reply
    received_ns: int


class Client:
    """Unary calls of one method to HOST:PORT. It connects with the first call, and again after a loss."""

    def __init__(self, address: str, method: str) -> None:
        self._address = address
        self._method = method
        self._blocks: dict[tuple[Metadata, float], bytes] = {}
        self._link: _Link | None = None
        self._opening = gevent.lock.RLock()

    def call(self, message: bytes, metadata: Metadata, timeout_s: float) -> Answered:
        """Send one message and wait for its reply, at most `timeout_s`, which the server is told.

        Raises UnicodeError for metadata that is not text.
        """
        block = self._block(metadata, timeout_s)
        try:
            with gevent.Timeout(timeout_s):
                answered = self._once(block, message)
                # The server has not looked at the call: asking again cannot do it twice.
                for tries in range(MAX_NOT_PROCESSED):
                    if not answered.reply.not_processed:
                        break
                    gevent.sleep(tries * PAUSE_S)
                    answered = self._once(block, message)
                return answered
        except gevent.Timeout:
            return _failed(StatusCode.DEADLINE_EXCEEDED, f"no reply within {timeout_s:g} s")
        except OSError as error:
            return _failed(StatusCode.UNAVAILABLE, str(error))

    def close(self) -> None:
        """Close the connection; calls in flight end UNAVAILABLE."""
        if self._link is not None:
            self._link.connection.close()

    def _once(self, block: bytes, message: bytes) -> Answered:
        waiting: gevent.event.AsyncResult[Answered] = gevent.event.AsyncResult()
        link = self._open()
        number = link.begin(block, message, waiting.set)
        try:
            return cast("Answered", waiting.get())
        except gevent.Timeout:
            link.connection.cancel(number)
            raise

    def _open(self) -> "_Link":
        if self._link is not None and self._link.connection.usable:
            return self._link
        with self._opening:
            if self._link is None or not self._link.connection.usable:
                self._link = _connect(self._address)
            return self._link

    def _block(self, metadata: Metadata, timeout_s: float) -> bytes:
        block = self._blocks.get((metadata, timeout_s))
        if block is None:
            block = self._blocks[metadata, timeout_s] = header_block(self._address, self._method, metadata, timeout_s)
        return block


def greet(address: str, timeout_s: float) -> None:
    """Connect to HOST:PORT and leave again. Raises NoHttp2Error where no gRPC server greets, OSError where none is."""
    try:
        with gevent.Timeout(timeout_s):
            _connect(address).connection.close()
    except gevent.Timeout:
        raise NoHttp2Error(f"no greeting within {timeout_s:g} s") from None


def header_block(address: str, method: str, metadata: Metadata, timeout_s: float) -> bytes:
    """Return a call's header block, every header as a literal: it is read the same whatever was sent before.

    Raises UnicodeError for metadata that is not text.
    """
    own = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", authority(address)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", f"{timeout_s * 1e3:.0f}m"),
    )
    pairs = [(name, value, True) for name, value in (*own, *metadata)]
    return hpack.Encoder().encode(pairs, huffman=False)


def _failed(code: StatusCode, details: str) -> Answered:
    return Answered(Reply(code, details), time.perf_counter_ns())


def _connect(address: str) -> "_Link":
    """Open a connection that the server has greeted. Raises OSError, of that NoHttp2Error."""
    link = _Link(_dial(address))
    link.opened.wait()
    if not link.connection.usable:
        raise NoHttp2Error("the server closed the connection, or does not speak HTTP/2")
    return link


def _dial(address: str) -> gevent.socket.socket:
    path = socket_path(address)
    if path is None:
        link = gevent.socket.create_connection(host_port(address))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        link = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.connect(str(path))
    return link


class _Link:
    """A connection and its socket. It has of asyncio's transports what a Connection uses."""

    def __init__(self, sock: gevent.socket.socket) -> None:
        loop = get_hub().loop
        self._socket: Any = sock
        self._file = sock.fileno()
        self._unsent = bytearray()
        self._room = gevent.event.Event()
        self._reads, self._writes = loop.io(self._file, READ), loop.io(self._file, WRITE)
        self.connection = Connection(MAX_REPLY_BYTES, lambda _: None)
        self.opened = gevent.event.Event()
        self.connection.opened = cast("Any", self.opened)  # asyncio's wakes nobody here
        self.connection.connection_made(cast("Any", self))
        self._reads.start(self._readable)

    def begin(self, block: bytes, message: bytes, answer: Callable[[Answered], None]) -> int:
        """Start a call once the server allows one more."""
        while self.connection.full and self.connection.usable:
            self._room.clear()
            self.connection.room = self._room.set
            self._room.wait()
        if not self.connection.usable:
            raise ConnectionError("the connection was lost")
        return self.connection.begin(block, message, lambda reply: answer(Answered(reply, time.perf_counter_ns())))

    # What a Connection calls.

    def set_write_buffer_limits(self, _high: int, _low: int) -> None:
        """Ignore the limits: ours is WRITE_HIGH."""

    def write(self, data: bytes) -> None:
        """Send, or keep what the kernel does not take now."""
        if not self._unsent:
            data = data[self._sent(data) :]
        if data and self._socket is not None:
            self._unsent += data
            self._writes.start(self._writable)
            if len(self._unsent) > WRITE_HIGH:
                self.connection.pause_writing()

    def close(self) -> None:
        """Close the socket, and tell the connection soon."""
        if self._socket is not None:
            for watcher in (self._reads, self._writes):
                watcher.stop()
                watcher.close()
            self._socket.close()
            self._socket = None
            self._room.set()
            get_hub().loop.run_callback(self.connection.connection_lost, None)

    def _sent(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._file, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def _writable(self) -> None:
        del self._unsent[: self._sent(self._unsent)]
        if not self._unsent and self._socket is not None:
            self._writes.stop()
            self.connection.resume_writing()

    def _readable(self) -> None:
        try:
            data = os.read(self._file, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.connection.data_received(data)
        else:
            self.close()
