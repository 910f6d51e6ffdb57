"""The two clients: the same core driven over a blocking channel and over an asyncio channel."""

from collections.abc import Sequence
from time import monotonic
from typing import Any, Self

import grpc
from grpc import aio

from servepath.client.core import Core, Exchange, Prediction, Rpc, T
from servepath.client.errors import PredictError, translate
from servepath.protocols.addresses import is_address
from servepath.protocols.comparison import Comparison
from servepath.protocols.paths import PathInfo

DEFAULT_TIMEOUT_S = 5.0
OPTIONS = (
    # A proxy for the web is none for a gateway; grpc would ask it even for 127.0.0.1.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 2**20),
    # grpc's own 120 s would keep a client waiting long after the gateway is back.
    ("grpc.max_reconnect_backoff_ms", 2000),
)
# What longer ones become: grpc takes a deadline that is very far away for one that has passed. The gateway's own limit
# is minutes.
MAX_TIMEOUT_S = 86_400.0


class Client:
    """Asks a gateway at HOST:PORT; may be shared by threads. Close it, or use it in a `with` block."""

    def __init__(self, address: str) -> None:
        """Raise ValueError for an address that is not HOST:PORT; connects with the first call."""
        self._core = Core(_checked(address))
        self._channel = grpc.insecure_channel(address, options=OPTIONS)

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | str = 0,
        outputs: Sequence[str] = (),
        request_id: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Prediction:
        """Return the prediction of `model` (MODEL or MODEL@STACK).

        inputs: rows as nested lists or an array, or a dict of them by input name; they are converted to the model's
        declared dtypes. A classifier of texts takes a list of texts, too. version: its number, or its label in the
        gateway's deployments.toml; 0 leaves it to the gateway. No `outputs` means all. timeout_s: math.inf waits for as
        long as the gateway lets a call take. Raises PredictError, or ValueError for a timeout below 0.
        """
        exchange = self._core.predict(model, inputs, version=version, outputs=outputs, request_id=request_id)
        return self._drive(exchange, timeout_s)

    def compare(
        self, model: str, inputs: Any, *, version: int | str = 0, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Comparison[Prediction]:
        """Return what every path of a model answers to the same request, and how far the answers are apart.

        model: MODEL (its default path is the baseline) or MODEL@STACK (that path is). inputs, version, timeout_s: as of
        predict. A path that fails is an entry with its error. Raises PredictError where no path takes the request, or
        ValueError for a timeout below 0.
        """
        return self._drive(self._core.compare(model, inputs, version=version), timeout_s)

    def list_paths(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[PathInfo, ...]:
        """Return the deployment paths and which of them answer now. Raises PredictError."""
        return self._drive(self._core.list_paths(), timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drive(self, exchange: Exchange[T], timeout_s: float) -> T:
        timeout_s = _allowed(timeout_s)
        deadline = monotonic() + timeout_s
        try:
            rpc = next(exchange)
            while True:
                try:
                    reply = self._call(rpc, deadline, timeout_s)
                except PredictError as error:
                    rpc = exchange.throw(error)
                else:
                    rpc = exchange.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _call(self, rpc: Rpc, deadline: float, timeout_s: float) -> bytes:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(rpc.method)
        try:
            return call(rpc.payload, timeout=deadline - monotonic())
        except grpc.RpcError as failure:
            raise translate(failure, rpc.what, self._core.address, timeout_s) from failure


class AsyncClient:
    """Asks a gateway at HOST:PORT from one event loop. Close it, or use it in an `async with` block."""

    def __init__(self, address: str) -> None:
        """Raise ValueError for an address that is not HOST:PORT; connects with the first call."""
        self._core = Core(_checked(address))
        self._channel = aio.insecure_channel(address, options=OPTIONS)

    async def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | str = 0,
        outputs: Sequence[str] = (),
        request_id: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Prediction:
        """Return the prediction of `model`, as Client.predict does."""
        exchange = self._core.predict(model, inputs, version=version, outputs=outputs, request_id=request_id)
        return await self._drive(exchange, timeout_s)

    async def compare(
        self, model: str, inputs: Any, *, version: int | str = 0, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Comparison[Prediction]:
        """Return what every path of `model` answers, as Client.compare does."""
        return await self._drive(self._core.compare(model, inputs, version=version), timeout_s)

    async def list_paths(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[PathInfo, ...]:
        """Return the deployment paths and which of them answer now. Raises PredictError."""
        return await self._drive(self._core.list_paths(), timeout_s)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _drive(self, exchange: Exchange[T], timeout_s: float) -> T:
        timeout_s = _allowed(timeout_s)
        deadline = monotonic() + timeout_s
        try:
            rpc = next(exchange)
            while True:
                try:
                    reply = await self._call(rpc, deadline, timeout_s)
                except PredictError as error:
                    rpc = exchange.throw(error)
                else:
                    rpc = exchange.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _call(self, rpc: Rpc, deadline: float, timeout_s: float) -> bytes:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(rpc.method)
        try:
            return await call(rpc.payload, timeout=deadline - monotonic())
        except aio.AioRpcError as failure:
            raise translate(failure, rpc.what, self._core.address, timeout_s) from failure


def _checked(address: str) -> str:
    if not is_address(address):
        raise ValueError(f"the gateway's address {address!r} is not HOST:PORT, such as 127.0.0.1:50051")
    return address


def _allowed(timeout_s: float) -> float:
    if not timeout_s >= 0:  # so nan is refused, too
        raise ValueError(f"timeout_s is {timeout_s!r}; give seconds from 0 on, or math.inf")
    return min(timeout_s, MAX_TIMEOUT_S)
