"""A server's address as something to call: connects when needed, again when lost, and not more often than it helps."""

import asyncio
from collections.abc import Callable
from time import monotonic

from grpc import StatusCode

from services.gateway.http2 import Connection, Done, Metadata, Reply, literal

# A server that comes back is found within a second of it.
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 1.0
CONNECT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 99_999_999  # eight digits are all that grpc-timeout may have

Cancel = Callable[[], None]


class UnaryClient:
    """Unary gRPC calls of one method to one address, over one connection at a time.

    address: HOST:PORT or unix:/PATH.
    """

    def __init__(self, address: str, path: str, max_message_bytes: int) -> None:
        self._address = address
        self._max_message_bytes = max_message_bytes
        authority = "localhost" if address.startswith("unix:") else address
        # Indexed 3 and 6 of HPACK's static table are ":method: POST" and ":scheme: http".
        self._head = b"\x83\x86" + literal(":path", path) + literal(":authority", authority)
        self._head += literal("te", "trailers") + literal("content-type", "application/grpc")
        self._blocks: dict[Metadata, bytes] = {}
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: dict[_Pending, None] = {}
        self._backoff_s = 0.0
        self._next_attempt = 0.0

    def call(self, message: bytes, deadline: float, metadata: Metadata, done: Done) -> Cancel:
        """Begin a call that must be answered by `deadline` (time.monotonic()). `done` is called once, unless cancelled.

        The deadline is told to the server; ending the call when it passes is the caller's.
        """
        pending = _Pending(message, deadline, metadata, done)
        self._send(pending)
        return pending.cancel

    async def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    def _send(self, pending: "_Pending") -> None:
        connection = self._connection
        if connection is not None and not connection.full:
            self._begin(connection, pending)
            return
        self._waiting[pending] = None
        pending.cancel = lambda: self._waiting.pop(pending, None) and None
        if connection is not None:
            connection.room = self._flush
        elif self._connecting is None:
            if monotonic() >= self._next_attempt:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            else:
                self._refuse()

    def _begin(self, connection: Connection, pending: "_Pending") -> None:
        milliseconds = min(max(int((pending.deadline - monotonic()) * 1000), 1), MAX_TIMEOUT_S)
        block = self._block(pending.metadata) + literal("grpc-timeout", f"{milliseconds}m")

        def done(reply: Reply) -> None:
            # The server has not seen the call: asking once more cannot do it twice.
            if reply.unseen and not pending.again:
                pending.again = True
                self._send(pending)
            else:
                pending.done(reply)

        number = connection.begin(block, pending.message, done)
        pending.cancel = lambda: connection.cancel(number)

    def _block(self, metadata: Metadata) -> bytes:
        block = self._blocks.get(metadata)
        if block is None:
            if len(self._blocks) > 16:  # noqa: PLR2004 - keys change hourly, nothing else does
                self._blocks.clear()
            block = self._blocks[metadata] = self._head + b"".join(literal(*pair) for pair in metadata)
        return block

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if self._address.startswith("unix:"):
                    _, connection = await loop.create_unix_connection(self._new, self._address.removeprefix("unix:"))
                else:
                    host, _, port = self._address.rpartition(":")
                    _, connection = await loop.create_connection(self._new, host.strip("[]"), int(port))
        except (OSError, TimeoutError):
            self._connecting = None
            self._back_off()
        else:
            self._connecting = None
            if connection.usable:
                self._backoff_s = 0.0
                self._connection = connection
                self._flush()
            else:  # accepted, and closed at once
                self._back_off()

    def _back_off(self) -> None:
        self._backoff_s = min(max(self._backoff_s * 1.6, FIRST_BACKOFF_S), MAX_BACKOFF_S)
        self._next_attempt = monotonic() + self._backoff_s
        self._refuse()

    def _new(self) -> Connection:
        return Connection(self._max_message_bytes, self._lost)

    def _lost(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            if self._waiting and self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def _flush(self) -> None:
        while self._waiting and self._connection is not None and not self._connection.full:
            pending = next(iter(self._waiting))
            del self._waiting[pending]
            self._begin(self._connection, pending)
        if self._waiting and self._connection is not None:
            self._connection.room = self._flush

    def _refuse(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for pending in waiting:
            pending.done(Reply(StatusCode.UNAVAILABLE, "connection refused"))


class _Pending:
    """A call that has not ended."""

    __slots__ = ("again", "cancel", "deadline", "done", "message", "metadata")

    def __init__(self, message: bytes, deadline: float, metadata: Metadata, done: Done) -> None:
        self.message = message
        self.deadline = deadline
        self.metadata = metadata
        self.done = done
        self.again = False
        self.cancel: Cancel
