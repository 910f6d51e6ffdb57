"""A stand-in for a stack's server that speaks the Open Inference Protocol and errs on demand."""

import struct
from collections.abc import Callable

from servepath.protocols import oip
from servepath.protocols.types import Answer, Provenance, Tensor
from services.dataplane.backend import Call, Outcome
from services.dataplane.data_plane import DataPlane
from services.dataplane.listener import ListenerLimits
from services.dataplane.listeners import LISTENERS


class FakeBackend:
    """Answers y = x0 + 2 x1 + bias, or whatever `behave` says: an outcome, or None to leave the call unanswered."""

    def __init__(self, bias: float = 0.0, version: int = 1, sha256: str = "") -> None:
        self.bias = bias
        self.served = Provenance("", "onnx", "fake", "0", version, sha256, sha256_observed=bool(sha256))
        self.calls: list[Call] = []
        self.behave: Callable[[Call], Outcome | None] = self.answer

    def answer(self, call: Call) -> Answer:
        (x,) = call.request.inputs
        rows = x.shape[0]
        values = struct.unpack(f"<{2 * rows}f", x.data)
        sums = [values[2 * row] + 2 * values[2 * row + 1] + self.bias for row in range(rows)]
        return Answer((Tensor("y", "FP32", (rows, 1), struct.pack(f"<{rows}f", *sums)),), self.served)

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        outcome = self.behave(call)
        if outcome is not None:
            call.end(outcome)

    def ready(self) -> bool:
        return True

    async def close(self) -> None:
        pass


class FakeStack:
    """A FakeBackend behind a real gRPC server. key: the metadata whose value is the key of its calls, if any."""

    def __init__(self, backend: FakeBackend, port: int = 0, front: str = "grpcio", key: str = "") -> None:
        self.backend = backend
        data_plane = DataPlane(backend, {oip.METHOD: oip}, lambda _, outcome: outcome, caller_key=key)
        self._listener = LISTENERS[front](f"127.0.0.1:{port}", (oip.METHOD,), data_plane.dispatch, (), ListenerLimits())
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> "FakeStack":
        self.port = await self._listener.start()
        return self

    async def stop(self) -> None:
        await self._listener.stop(0)
