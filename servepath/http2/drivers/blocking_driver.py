"""A client's connection on a blocking socket, for programs with threads instead of an event loop.

Who has a request sends it, a thread reads: no request is handed from one thread to another on its way out.
"""

import socket
import threading

from grpc import StatusCode

from servepath.http2.client import Connection, Done, NoHttp2Error
from servepath.http2.replies import Reply
from servepath.protocols.addresses import host_port, socket_path

READ_BYTES = 2**16


class BlockingLink:
    """One connection to HOST:PORT or unix:PATH that the server has greeted. Raises OSError, of that NoHttp2Error.

    While a sender waits for the server to read, nothing is read here: messages must fit the sockets' buffers.
    """

    def __init__(self, address: str, max_message_bytes: int, timeout_s: float) -> None:
        self._socket = _dial(address, timeout_s)
        self._socket.settimeout(None)
        self._lock = threading.Lock()
        opened = threading.Event()
        self._connection = Connection(max_message_bytes, opened.set, lambda _: None)
        self._connection.start(self)
        threading.Thread(target=self._read, daemon=True).start()
        if not (opened.wait(timeout_s) and self._connection.usable):
            self.close()
            raise NoHttp2Error(f"{address} closed the connection, or does not speak HTTP/2")

    def send(self, block: bytes, message: bytes, done: Done) -> None:
        """Start a call; `done` is called once, by the reading thread, or now if the call cannot be sent.

        `done` must not send.
        """
        with self._lock:
            if self._connection.usable and not self._connection.full:
                self._connection.begin(block, message, done)
                return
        done(Reply(StatusCode.UNAVAILABLE, "the connection is lost or full"))

    # What the connection calls.

    def write(self, data: bytes) -> None:
        """Send all; the reading thread finds out if that fails."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.close()

    def close(self) -> None:
        """End both directions; the reading thread then closes the socket."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already

    def _read(self) -> None:
        with self._socket:
            while data := self._received():
                with self._lock:
                    self._connection.receive(data)
        with self._lock:
            self._connection.lost()

    def _received(self) -> bytes:
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:
            return b""


def _dial(address: str, timeout_s: float) -> socket.socket:
    path = socket_path(address)
    if path is None:
        dialled = socket.create_connection(host_port(address), timeout_s)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        dialled = socket.socket(socket.AF_UNIX)
        dialled.settimeout(timeout_s)
        dialled.connect(str(path))
    return dialled
