"""A gRPC connection for programs with threads instead of an event loop: who has a request sends it, a thread reads.

It is the HTTP/2 client of the load test (loadtest/connection.py) on a socket that blocks. No request is handed from one
thread to another on its way out, so what LoadGen measures through it is the server.
"""

import socket
import threading
from collections.abc import Callable
from typing import Any, cast

from grpc import StatusCode

from loadtest.connection import MAX_REPLY_BYTES, READ_BYTES
from servepath.http2.client import Connection
from servepath.http2.replies import Reply
from servepath.protocols.addresses import host_port, socket_path


def _dial(address: str, timeout_s: float) -> socket.socket:
    path = socket_path(address)
    if path is None:
        link = socket.create_connection(host_port(address), timeout_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(timeout_s)
        link.connect(str(path))
    return link


class Wire:
    """One connection to HOST:PORT or unix:PATH that the server has greeted. Raises OSError."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._socket = _dial(address, timeout_s)
        self._socket.settimeout(None)
        self._lock = threading.Lock()
        self._connection = Connection(MAX_REPLY_BYTES, lambda _: None)
        opened = threading.Event()
        self._connection.opened = cast("Any", opened)
        self._connection.connection_made(cast("Any", self))
        threading.Thread(target=self._read, daemon=True).start()
        if not (opened.wait(timeout_s) and self._connection.usable):
            raise ConnectionError(f"{address} closed the connection, or does not speak HTTP/2")

    def send(self, block: bytes, message: bytes, done: Callable[[Reply], None]) -> None:
        """Start a call; `done` is called once, by the reading thread, or now if the call cannot be sent."""
        with self._lock:
            if self._connection.usable and not self._connection.full:
                self._connection.begin(block, message, done)
                return
        done(Reply(StatusCode.UNAVAILABLE, "the connection is lost or full"))

    def _read(self) -> None:
        data = self._received()
        while data:
            with self._lock:
                self._connection.data_received(data)
            data = self._received()
        with self._lock:
            self._connection.connection_lost(None)

    def _received(self) -> bytes:
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:
            return b""

    # What a Connection calls.

    def set_write_buffer_limits(self, _high: int, _low: int) -> None:
        """Ignore the limits: writing blocks."""

    def write(self, data: bytes) -> None:
        """Send all; the reading thread finds out if that fails."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already
