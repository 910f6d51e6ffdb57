"""The listener on grpcio: slower than a native one, and able to do everything (TLS, connection age, limits)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
from grpc import aio

from servepath.http2.write_coalescer import WriteCoalescer
from servepath.protocols.errors import ServeError
from services.dataplane.control import abort
from services.dataplane.listener import IN_USE, Dispatch, ListenerLimits, PortBusyError

Context = aio.ServicerContext[Any, Any]


class GrpcioListener:
    """A grpc.aio server whose hot methods deliver lists of one raw call.

    hot: full paths of the methods that go to `dispatch`. controls: each registers ordinary servicers on the server.
    """

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
        del coalescer  # grpcio writes when it likes
        self._address = address
        self._limits = limits
        self._dispatch = dispatch
        self._server = aio.server(options=server_options(limits))
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
        """Listen and return the port. Raises PortBusyError."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise PortBusyError(f"cannot listen on {self._address}: {IN_USE}") from error
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, then close."""
        await self._server.stop(grace_s)

    async def _handle(self, path: str, payload: bytes, context: Context) -> bytes:
        raw = _GrpcioCall(path, payload, context, self._limits.deadline(context.time_remaining()))
        self._dispatch([raw])
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


def server_options(limits: ListenerLimits) -> list[tuple[str, int]]:
    """Return the options of a grpc.aio server that keeps the limits."""
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Unasked, two processes on one port would steal each other's calls without a word.
        ("grpc.so_reuseport", int(limits.share_port)),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_s * 1000)),
        # Between the two grpcio refuses at random: no room between them.
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
        ("grpc.max_concurrent_streams", limits.max_streams),
        # Compressed messages are inflated before their size is checked: refuse them.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]
