"""The front on grpcio: slower than a native one, and able to do everything (TLS, connection age, limits)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import grpc
from grpc import aio

from services.serving.control import abort
from services.serving.front import Deliver, PortBusyError
from services.wire.errors import ServeError

Context = aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """What a front accepts: one message's size, and the deadline of a call that brings none, or too long a one."""

    max_message_bytes: int = 16 * 2**20
    default_deadline_s: float = 15.0
    max_deadline_s: float = 120.0

    def deadline(self, remaining_s: float | None) -> float:
        """Give the time.monotonic() deadline of a call with `remaining_s` left (grpcio gives huge values for none)."""
        if remaining_s is None or remaining_s > NO_DEADLINE_S:
            return monotonic() + self.default_deadline_s
        return monotonic() + min(remaining_s, self.max_deadline_s)


# Who connects has this long to say that it speaks HTTP/2; the library's own default is two minutes.
HANDSHAKE_MS = 10_000
# grpcio reports 9.2e18 s where the client set no deadline; a client's own may be anything below.
NO_DEADLINE_S = 1e9


class GrpcioFront:
    """A grpc.aio server whose hot methods deliver lists of one raw call.

    hot: full paths of the methods that go to `deliver`. controls: each registers ordinary servicers on the server.
    """

    def __init__(
        self,
        address: str,
        hot: Sequence[str],
        deliver: Deliver,
        controls: Sequence[Callable[[aio.Server], None]],
        limits: FrontLimits,
    ) -> None:
        self._address = address
        self._limits = limits
        self._deliver = deliver
        self._server = aio.server(options=_options(limits))
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for path in hot:
            _, service, method = path.split("/")
            by_service.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(
                partial(self._handle, path)
            )
        for service, methods in by_service.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        for add in controls:
            add(self._server)

    async def start(self) -> int:
        """Listen and give the port. Raises PortBusyError."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise PortBusyError(f"cannot listen on {self._address}: the port is in use or not ours") from error
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give the ones in flight `grace_s` seconds, then close."""
        await self._server.stop(grace_s)

    async def _handle(self, path: str, payload: bytes, context: Context) -> bytes:
        raw = _GrpcioCall(path, payload, context, self._limits.deadline(context.time_remaining()))
        self._deliver([raw])
        try:
            return await raw.outcome
        except ServeError as error:
            await abort(context, error)
        except asyncio.CancelledError:
            # The client is gone. Swallowed on purpose: an escaping CancelledError has left grpc.aio clients hanging.
            raw.cancelled()
            return b""


class _GrpcioCall:
    """A raw call whose outcome is a future that the handler awaits."""

    def __init__(self, method: str, payload: bytes, context: Context, deadline: float) -> None:
        self.method = method
        self.payload = payload
        self.deadline = deadline
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._context = context
        self._on_cancel: Callable[[], None] | None = None

    @property
    def metadata(self) -> Mapping[str, str]:
        return {key: value for key, value in self._context.invocation_metadata() or () if isinstance(value, str)}

    def reply(self, payload: bytes) -> None:
        if not self.outcome.done():
            self.outcome.set_result(payload)

    def fail(self, error: ServeError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._on_cancel = callback

    def cancelled(self) -> None:
        if self._on_cancel is not None:
            self._on_cancel()


def _options(limits: FrontLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Two processes on one port would steal each other's calls without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.max_metadata_size", 8 * 2**10),
        ("grpc.max_concurrent_streams", 1024),
        # Compressed messages are inflated before their size is checked: refuse them.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]
