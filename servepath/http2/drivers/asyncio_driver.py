"""Connections on asyncio's transports: the gateway's clients, and the servers."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from servepath.http2.client import Connection
from servepath.http2.server import ServerConnection
from servepath.http2.write_coalescer import WriteCoalescer

# Unsent bytes above which nothing more is written, and below which it goes on.
WRITE_HIGH, WRITE_LOW = 2**20, 2**18
# A caller that vanished without a word is asked after so long, so often, and given up (Linux).
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Driver(asyncio.Protocol):
    """Drives a connection; the transport itself is its output."""

    def __init__(self, connection: Connection | ServerConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection."""
        own = cast("asyncio.Transport", transport)  # uvloop's are not a subclass of asyncio's
        own.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        self._connection.start(own)

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self._connection.receive(data)

    def pause_writing(self) -> None:
        """Pause the connection: the peer does not keep up."""
        self._connection.pause()

    def resume_writing(self) -> None:
        """Resume the connection."""
        self._connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        del exc
        self._connection.lost()


class ServerDriver(Driver):
    """Drives a server's connection, and reads nothing of a caller that does not read.

    Each frame of such a caller may ask for one of ours.
    """

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection."""
        self._transport = cast("asyncio.Transport", transport)
        _keep_alive(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """Pause the connection, and reading."""
        super().pause_writing()
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume the connection, and reading."""
        super().resume_writing()
        if not self._transport.is_closing() and not self._connection.paused:
            self._transport.resume_reading()


def new_coalescer() -> WriteCoalescer:
    """Return a write coalescer for the connections of the loop that runs when they write."""
    return WriteCoalescer(_call_soon)


def _call_soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _keep_alive(connected: socket.socket) -> None:
    """Make the kernel detect callers that vanish."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
