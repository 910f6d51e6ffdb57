"""A backend that keeps its calls until the test ends them, and a raw call that remembers how it ended."""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

from servepath.protocols import oip
from servepath.protocols.errors import ServeError
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from services.dataplane.backend import Call

SERVED = Provenance("m", "onnx", "fake", "1", 1, "0" * 64, sha256_observed=True)
ANSWER = Answer((Tensor("y", "FP32", (1, 1), bytes(4)),), SERVED)
X = Tensor("x", "FP32", (1, 2), bytes(8))


def call(*inputs: Tensor) -> Call:
    return Call(Request("m", 0, inputs or (X,)), monotonic() + 60)


class Keeping:
    """A Backend."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.is_ready = True
        self.closed = False

    def submit(self, call: Call) -> None:
        self.calls.append(call)

    def ready(self) -> bool:
        return self.is_ready

    async def close(self) -> None:
        self.closed = True


class Raw:
    """A RawCall."""

    metadata: Mapping[str, str] = {}

    def __init__(self, payload: bytes, remaining_s: float = 60) -> None:
        self.method = oip.METHOD
        self.payload = payload
        self.deadline = monotonic() + remaining_s
        self.replies: list[bytes] = []
        self.errors: list[ServeError] = []
        self.failed = asyncio.Event()
        self.cancel: Callable[[], None] = lambda: None

    def reply(self, payload: bytes) -> None:
        self.replies.append(payload)

    def fail(self, error: ServeError) -> None:
        self.errors.append(error)
        self.failed.set()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self.cancel = callback
