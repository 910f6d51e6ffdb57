"""A client's connection under gevent: its socket is watched by the hub, so no thread and no greenlet reads it."""

import os
import socket

import gevent
import gevent.event
import gevent.socket
from gevent.hub import get_hub

from servepath.http2.client import Connection, Done, NoHttp2Error
from servepath.protocols.addresses import host_port, socket_path

READ_BYTES = 2**16
READ, WRITE = 1, 2
# Unsent bytes above which the connection is told to wait.
WRITE_HIGH = 2**20


def connect(address: str, max_message_bytes: int) -> "GeventLink":
    """Open a connection that the server has greeted. Raises OSError, of that NoHttp2Error."""
    link = GeventLink(_dial(address), max_message_bytes)
    try:
        link.opened.wait()
    except gevent.Timeout:
        link.connection.close()
        raise
    if not link.connection.usable:
        raise NoHttp2Error(f"{address} closed the connection, or does not speak HTTP/2")
    return link


class GeventLink:
    """A connection and its socket, whose output it is. opened: see Connection."""

    def __init__(self, connected: gevent.socket.socket, max_message_bytes: int) -> None:
        loop = get_hub().loop
        self._socket: gevent.socket.socket | None = connected
        self._file = connected.fileno()
        self._unsent = bytearray()
        self._room = gevent.event.Event()
        self._reads, self._writes = loop.io(self._file, READ), loop.io(self._file, WRITE)
        self.opened = gevent.event.Event()
        self.connection = Connection(max_message_bytes, self.opened.set, lambda _: None)
        self.connection.start(self)
        self._reads.start(self._readable)

    def begin(self, block: bytes, message: bytes, done: Done) -> int:
        """Start a call once the server allows one more; see Connection. Raises ConnectionError after a loss."""
        while self.connection.full and self.connection.usable:
            self._room.clear()
            self.connection.room = self._room.set
            self._room.wait()
        if not self.connection.usable:
            raise ConnectionError("the connection was lost")
        return self.connection.begin(block, message, done)

    # What the connection calls.

    def write(self, data: bytes) -> None:
        """Send, or keep what the kernel does not take now."""
        if self._socket is None:
            return  # the descriptor may be another's by now
        if not self._unsent:
            data = data[self._sent(data) :]
        if data and self._socket is not None:
            self._unsent += data
            self._writes.start(self._writable)
            if len(self._unsent) > WRITE_HIGH:
                self.connection.pause()

    def close(self) -> None:
        """Close the socket, and tell the connection soon."""
        if self._socket is not None:
            for watcher in (self._reads, self._writes):
                watcher.stop()
                watcher.close()
            self._socket.close()
            self._socket = None
            get_hub().loop.run_callback(self._lost)

    # What the hub calls.

    def _lost(self) -> None:
        self.connection.lost()
        self._room.set()  # only now: those that wait for it look whether the connection is usable

    def _writable(self) -> None:
        del self._unsent[: self._sent(self._unsent)]
        if not self._unsent and self._socket is not None:
            self._writes.stop()
            self.connection.resume()

    def _readable(self) -> None:
        try:
            data = os.read(self._file, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.connection.receive(data)
        else:
            self.close()

    def _sent(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._file, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0


def _dial(address: str) -> gevent.socket.socket:
    path = socket_path(address)
    if path is None:
        dialled = gevent.socket.create_connection(host_port(address))
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        dialled = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        dialled.connect(str(path))
    return dialled
