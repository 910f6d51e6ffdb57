"""The listener of our own: HTTP/2 on the event loop's thread, calls handed over in lists (docs/adr/0011).

What is read in one turn of the loop, on all connections, is one list: the busier the loop, the longer the lists.
Control RPCs are served by an ordinary grpc.aio server on a Unix socket behind it, one without a file: nothing hangs on
a folder. Other users of this machine could find it; they may ask the same on the port.
"""

import asyncio
import logging
import os
import resource
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from time import monotonic
from typing import cast

from grpc import aio

from servepath.http2.drivers.asyncio_driver import ServerDriver, new_coalescer
from servepath.http2.grpc_server import GrpcServerConnection
from servepath.http2.request_headers import RequestHeaders
from servepath.http2.server import Stream
from servepath.http2.unary_call import UnaryCall
from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols.errors import DeadlineExceeded, DeadlineStage, Internal
from services.dataplane.grpcio_listener import server_options
from services.dataplane.listener import IN_USE, Dispatch, ListenerLimits, PortBusyError, RawCall
from services.dataplane.native_controls import ControlCall

log = logging.getLogger(__name__)
# Of messages that have not come to their end, over all connections, and of frames and header blocks.
MAX_UNFINISHED_BYTES = 2**28
MAX_FRAME_BYTES = 2**27
# Of the descriptors that the process may open, how many connections may take: files and servers need some, too.
CONNECTIONS_SHARE = 0.9
# How often calls are looked for whose message does not come, or whose reply is not taken.
SWEEP_S = 1.0
# What a stop waits for callers to read what they were sent.
FLUSH_S = 1.0
# What a start waits for the control server, which is in this process.
CONTROLS_S = 10.0
CHANNEL_OPTIONS = (
    # grpc would ask a proxy for the web even for this socket.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
)


class NativeListener:
    """A server whose hot methods deliver lists of raw calls, all on the event loop's thread."""

    def __init__(
        self,
        address: str,
        hot: Sequence[str],
        dispatch: Dispatch,
        controls: Sequence[Callable[[aio.Server], None]],
        limits: ListenerLimits,
        *,
        coalescer: WriteCoalescer | None = None,
    ) -> None:
        """`coalescer`: shared with the connections that the answers come from."""
        self.limits = limits
        self.stopping = False
        self._address = address
        self._hot = frozenset(hot)
        self._dispatch = dispatch
        self._controls = aio.server(options=server_options(limits))
        for add in controls:
            add(self._controls)
        self._coalescer = coalescer or new_coalescer()
        self._arrived: list[UnaryCall] = []
        # Of this turn of the loop: whether its end is waited for, how many reads brought calls, and of the last one
        # whether there was more than one.
        self._in_turn = False
        self._reads = 0
        self._gathers = False
        self._unfinished = 0
        self._frame_bytes = 0
        self._most = _most_connections(limits)
        self._refused = 0
        self._connections: dict[GrpcServerConnection, asyncio.TimerHandle] = {}
        self._idle = asyncio.Event()
        self._gone = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._channel: aio.Channel | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> int:
        """Listen and return the port. Raises PortBusyError."""
        self._loop = asyncio.get_running_loop()
        host, _, port = self._address.rpartition(":")
        try:
            await self._start_controls()
            self._server = await self._loop.create_server(
                lambda: ServerDriver(GrpcServerConnection(self, self._coalescer)),
                host.strip("[]"),
                int(port),
                reuse_port=self.limits.share_port,
                backlog=1024,
            )
        except OSError as error:
            await self.stop(0)
            raise PortBusyError(f"cannot listen on {self._address}: {IN_USE}") from error
        except BaseException:
            await self.stop(0)
            raise
        self._sweep = self._loop.call_later(SWEEP_S, self._expire)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, then close."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._connections:
            connection.leave()
        await asyncio.gather(self._controls.stop(grace_s), self._finish(grace_s))
        for connection in tuple(self._connections):
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await (self._gone.wait() if self._connections else asyncio.sleep(0))
        for connection in tuple(self._connections):
            connection.abort()
        if self._channel is not None:
            await self._channel.close()

    # What connections and calls use.

    def opened(self, connection: GrpcServerConnection) -> None:
        """Note a new connection, or close it where there are too many."""
        if len(self._connections) >= self._most:
            self._refused += 1
            # Without a word: after one, gRPC clients take the server for a good one and connect again at full load.
            connection.abort()
            return
        late = self._loop.call_later(self.limits.handshake_s, connection.must_be_settled)
        self._connections[connection] = late

    def closed(self, connection: GrpcServerConnection) -> None:
        """Note a connection's end."""
        late = self._connections.pop(connection, None)
        if late is not None:
            late.cancel()  # or it would keep the connection
        self.idle()
        if self.stopping and not self._connections:
            self._gone.set()

    def idle(self) -> None:
        """Note that a connection has no stream any more, or fewer replies on their way."""
        if self.stopping and not any(connection.open_streams for connection in self._connections):
            self._idle.set()

    def begin(self, connection: GrpcServerConnection, number: int, headers: RequestHeaders) -> Stream:
        """Return the stream of a call whose headers are in order."""
        if headers.path in self._hot:
            return UnaryCall(self, connection, number, headers)
        return ControlCall(self, cast("aio.Channel", self._channel), connection, number, headers)

    def arrived(self, call: UnaryCall) -> None:
        """Accept a call; `read` dispatches it."""
        self._arrived.append(call)

    def read(self) -> None:
        """Dispatch what has arrived: at once while reads come one by one, else at the end of the loop's turn."""
        if self.stopping:
            self.idle()
        if not self._arrived:
            return
        self._reads += 1
        if not self._in_turn:
            self._in_turn = True
            self._loop.call_soon(self._end_turn)
            if not self._gathers:
                self._hand_over()

    def withdraw(self, call: UnaryCall) -> None:
        """Drop a call that has not been dispatched."""
        with suppress(ValueError):
            self._arrived.remove(call)

    def hold(self, size: int) -> bool:
        """Count bytes of messages that are not whole yet, or no longer; say whether there is room for them."""
        self._unfinished += size
        return self._unfinished <= MAX_UNFINISHED_BYTES

    def hold_frames(self, size: int) -> None:
        """Count bytes of frames that are not whole yet, or no longer; too many close the connection with most of them.

        A small part of a frame is in every other read; only who sends nothing but parts has many.
        """
        self._frame_bytes += size
        if size > 0 and self._frame_bytes > MAX_FRAME_BYTES:
            max(self._connections, key=attrgetter("held")).refuse()

    def _end_turn(self) -> None:
        self._gathers = self._reads > 1
        self._in_turn, self._reads = False, 0
        if self._arrived:
            with self._coalescer:
                self._hand_over()

    def _hand_over(self) -> None:
        calls, self._arrived = self._arrived, []
        try:
            self._dispatch(cast("list[RawCall]", calls))
        except Exception:
            log.exception("calls could not be dispatched")
            for call in calls:
                call.fail(Internal())  # those that have not ended

    def _expire(self) -> None:
        if self._refused:
            log.warning("%d connections were refused: %d are open, the maximum", self._refused, self._most)
            self._refused = 0
        now = monotonic()
        for connection in tuple(self._connections):
            if connection.stalled(now):
                connection.refuse()
            connection.expire(now)
            if connection.unread(now):
                connection.abort()
            for number, stream in tuple(connection.streams.items()):
                if stream.overdue(now):
                    connection.fail(number, DeadlineExceeded(DeadlineStage.ON_ARRIVAL))
                    stream.cancelled()
        self._sweep = self._loop.call_later(SWEEP_S, self._expire)

    async def _start_controls(self) -> None:
        # A name that nobody can have taken before.
        address = f"unix-abstract:servepath-{os.getpid()}-{secrets.token_hex(16)}"
        try:
            self._controls.add_insecure_port(address)
            await self._controls.start()
            self._channel = aio.insecure_channel(address, CHANNEL_OPTIONS)
            # Anyone who is told that we are ready asks for our health.
            async with asyncio.timeout(CONTROLS_S):
                await self._channel.channel_ready()
        except (RuntimeError, TimeoutError) as error:
            raise PortBusyError(
                f"cannot listen on {self._address}: no socket for control RPCs; allow abstract Unix sockets"
            ) from error

    async def _finish(self, grace_s: float) -> None:
        self.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()


def _most_connections(limits: ListenerLimits) -> int:
    """Return the limit, or the process's limit of open files where that is less."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return limits.max_connections
    return min(limits.max_connections, int(CONNECTIONS_SHARE * descriptors))
