"""A server's address as something to call: connects when needed, again when lost, and not more often than it helps."""

import asyncio
import logging
import socket
from collections.abc import Callable
from time import monotonic

from grpc import StatusCode

from servepath.http2.client import Connection, Done
from servepath.http2.drivers.asyncio_driver import Driver, new_coalescer
from servepath.http2.frames import literal, request_head
from servepath.http2.replies import Metadata, Reply
from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols import addresses

log = logging.getLogger(__name__)

# A server that comes back is found within a second of it.
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 1.0
BACKOFF_GROWTH = 1.6
CONNECT_TIMEOUT_S = 5.0
# A server that closes its connections as fast as they come is not asked more often than this.
MIN_LIFE_S = 0.05
# A host that vanished without a word is given up when sent bytes have gone unconfirmed for so long (Linux).
UNCONFIRMED_MS = 10_000
MAX_TIMEOUT_MS = 99_999_999  # eight digits are all that grpc-timeout may have
MAX_KNOWN_METADATA = 16  # keys change hourly, nothing else does

Cancel = Callable[[], None]


class UnaryChannel:
    """Unary gRPC calls of one method to one address, over one connection at a time.

    address: HOST:PORT, [IPV6]:PORT or unix:/PATH. Calls wait while there is no room on the connection; how many there
    may be at once is for the policies in front to say.
    """

    def __init__(
        self, address: str, path: str, max_message_bytes: int, coalescer: WriteCoalescer | None = None
    ) -> None:
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._coalescer = coalescer or new_coalescer()
        self._head = request_head(path, addresses.authority(address))
        self._blocks: dict[Metadata, bytes] = {}
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: dict[_Pending, None] = {}
        self._closed = False
        self._backoff_s = 0.0
        self._refuse_until = 0.0
        self._opened_at = 0.0

    def call(self, message: bytes, deadline: float, metadata: Metadata, done: Done) -> Cancel:
        """Start a call that must be answered by `deadline` (time.monotonic()); return what cancels it.

        `done` is called once, later, unless the call is cancelled. The deadline is told to the server; ending the call
        when it passes is the caller's. Raises ValueError for metadata that is not ASCII.
        """
        pending = _Pending(self, self._block(metadata), message, deadline, done)
        self.send(pending)
        return pending.cancel

    async def close(self) -> None:
        """Close the connection; calls that have not ended end UNAVAILABLE."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            self._connection.close()

    def send(self, pending: "_Pending") -> None:
        """Start a call on the connection, or queue it until there is one."""
        connection = self._connection
        if connection is not None and not self._waiting and not connection.full:
            pending.begin(connection)
            return
        self._waiting[pending] = None
        if connection is not None:
            connection.room = self._flush
        elif self._connecting is None:
            self._reconnect()

    def forget(self, pending: "_Pending") -> None:
        """Remove a call from the queue."""
        self._waiting.pop(pending, None)

    def _block(self, metadata: Metadata) -> bytes:
        block = self._blocks.get(metadata)
        if block is None:
            block = self._head + b"".join(literal(*pair) for pair in metadata)
            if len(self._blocks) >= MAX_KNOWN_METADATA:
                self._blocks.clear()
            self._blocks[metadata] = block
        return block

    def _reconnect(self) -> None:
        if self._closed or monotonic() < self._refuse_until:
            self._refuse()
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        opened = asyncio.Event()
        connection = Connection(self._max_message_bytes, opened.set, self._lost, self._coalescer)
        try:
            await asyncio.sleep(self._opened_at + MIN_LIFE_S - monotonic())
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._open(connection)
                await opened.wait()
        except (OSError, ValueError, OverflowError) as error:
            log.info("no connection to %s: %s", self._address, error)
        finally:
            self._connecting = None
            if connection.usable and not self._closed:
                self._backoff_s = 0.0
                self._opened_at = monotonic()
                self._connection = connection
                self._flush()
            else:
                connection.close()
                self._back_off()

    async def _open(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        if path := addresses.socket_path(self._address):
            await loop.create_unix_connection(lambda: Driver(connection), str(path))
            return
        host, port = addresses.host_port(self._address)
        transport, _ = await loop.create_connection(lambda: Driver(connection), host, port)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            own = transport.get_extra_info("socket")
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNCONFIRMED_MS)

    def _back_off(self) -> None:
        self._backoff_s = min(max(self._backoff_s * BACKOFF_GROWTH, FIRST_BACKOFF_S), MAX_BACKOFF_S)
        self._refuse_until = monotonic() + self._backoff_s
        self._refuse()

    def _lost(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            if self._waiting and self._connecting is None:
                self._reconnect()

    def _flush(self) -> None:
        connection = self._connection
        while self._waiting and connection is not None and not connection.full:
            pending = next(iter(self._waiting))
            del self._waiting[pending]
            pending.begin(connection)
            connection = self._connection
        if self._waiting and connection is not None:
            connection.room = self._flush

    def _refuse(self) -> None:
        """End the queued calls, in the loop's next turn: a call must not end while it is being started."""
        waiting, self._waiting = self._waiting, {}
        reply = Reply(StatusCode.UNAVAILABLE, f"no connection to {self._address}")
        for pending in waiting:
            asyncio.get_running_loop().call_soon(pending.end, reply)


class _Pending:
    """A call: waits, is on a connection, or has ended."""

    __slots__ = ("_again", "_block", "_channel", "_connection", "_deadline", "_done", "_ended", "_message", "_number")

    def __init__(self, channel: UnaryChannel, block: bytes, message: bytes, deadline: float, done: Done) -> None:
        self._channel = channel
        self._block = block
        self._message = message
        self._deadline = deadline
        self._done = done
        self._connection: Connection | None = None
        self._number = 0
        self._again = False
        self._ended = False

    def begin(self, connection: Connection) -> None:
        """Send the request."""
        remaining_ms = min(max(int((self._deadline - monotonic()) * 1000), 1), MAX_TIMEOUT_MS)
        block = self._block + literal("grpc-timeout", f"{remaining_ms}m")
        self._connection = connection
        self._number = connection.begin(block, self._message, self._replied)

    def cancel(self) -> None:
        """Cancel the call, unless it has ended."""
        if not self._ended:
            self._leave()
            if self._connection is None:
                self._channel.forget(self)
            else:
                self._connection.cancel(self._number)

    def end(self, reply: Reply) -> None:
        """End the call, unless it has ended."""
        if not self._ended:
            done = self._done
            self._leave()
            done(reply)

    def _leave(self) -> None:
        """Drop the references to callback and message, which would form a cycle with the canceller."""
        self._ended = True
        self._done = _nobody
        self._message = b""

    def _replied(self, reply: Reply) -> None:
        # The server has not seen the call: asking once more cannot do it twice.
        if reply.not_processed and not self._again:
            self._again = True
            self._connection = None
            self._channel.send(self)
        else:
            self.end(reply)


def _nobody(_: Reply) -> None:
    """Do nothing: the caller is gone."""
