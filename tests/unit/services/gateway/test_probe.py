import asyncio
from collections.abc import Callable

from services.gateway.probe import Prober
from services.serving.backend import Call
from services.wire.errors import Cancelled, Expired
from services.wire.signature import Signature
from tests.manifests import SPEC
from tests.serving_fakes import ANSWER


class Server:
    """What a Prober needs of a Replica; leaves its calls to the test."""

    model = "m"
    stack = "onnx"

    def __init__(self) -> None:
        self.ready_now = True
        self.calls: list[Call] = []
        self.behave: Callable[[Call], None] = lambda _: None

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        self.behave(call)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.005)


async def test_a_probe_that_nobody_ends_expires_and_the_next_ones_follow() -> None:
    server = Server()
    prober = Prober({"m@onnx": server}, {"m": Signature(SPEC)}, 0.01, timeout_s=0.02)  # type: ignore[dict-item]
    await prober.start()
    await until(lambda: not server.ready_now)
    server.behave = lambda call: call.end(ANSWER)
    await until(lambda: server.ready_now)
    await prober.stop()
    assert isinstance(server.calls[0].outcome, Expired)


async def test_stopping_ends_the_probe_that_is_out() -> None:
    server = Server()
    prober = Prober({"m@onnx": server}, {"m": Signature(SPEC)}, 0.01)  # type: ignore[dict-item]
    await prober.start()
    await until(lambda: bool(server.calls))
    await prober.stop()
    assert isinstance(server.calls[0].outcome, Cancelled)
