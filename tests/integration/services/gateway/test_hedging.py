"""Hedging over real gRPC: what one server keeps, another answers; nothing is asked twice while calls wait."""

import asyncio
import itertools
import logging
import re
import struct
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from servepath.protocols import servepath
from servepath.protocols.errors import Cancelled
from servepath.protocols.types import Request, Tensor
from services.dataplane.backend import Call, Outcome
from services.gateway.hedging import HedgingReplicas
from services.gateway.server import Gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import Caller, running, settings
from tests.limits import LONG_S

DEPLOYMENTS = """
[gateway]
probe_interval_s = 3600
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
max_merge_rows = 1
hedge_percent = 5
"""
PAYLOAD = servepath.encode_request(
    Request("alpha", 0, (Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2)),)), "alpha", 0
)


class Stalling(FakeBackend):
    """Keeps one call of `every` for good, `most` in all, once it is told to."""

    def __init__(self, every: int, most: int) -> None:
        super().__init__()
        self.kept: list[Call] = []
        self.every = every
        self.most = most
        self.stalls = False
        self._numbers = itertools.count(1)
        self.behave = self._stall_or_answer

    def _stall_or_answer(self, call: Call) -> Outcome | None:
        if self.stalls and len(self.kept) < self.most and next(self._numbers) % self.every == 0:
            self.kept.append(call)
            return None
        return self.answer(call)


@asynccontextmanager
async def hedged(folder: Path, front: str, *backends: FakeBackend) -> AsyncIterator[tuple[Gateway, Caller]]:
    """Run a gateway with a replica for each backend, all of which get calls."""
    make_export(folder / "exports", "alpha", "onnx")
    stacks = [await FakeStack(backend).start() for backend in backends]
    try:
        addresses = {"onnx": ",".join(stack.address for stack in stacks)}
        async with running(settings(folder, DEPLOYMENTS, addresses, front)) as (gateway, caller):
            async with asyncio.timeout(LONG_S):
                while (await caller.list_paths()).paths[0].replicas_usable < len(backends):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for backend in backends:
                backend.calls.clear()
            yield gateway, caller
    finally:
        for stack in stacks:
            await stack.stop()


async def counted(gateway: Gateway) -> tuple[float, float]:
    """Return the calls asked twice, and those of them that the second replica answered first."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.metrics_port}/metrics", timeout=LONG_S) as got:
            return got.read().decode()

    text = await asyncio.to_thread(read)
    hedges, won = (
        float(re.findall(rf'^servepath_{name}_total{{model="alpha",stack="onnx"}} (\S+)$', text, re.MULTILINE)[0])
        for name in ("hedges", "hedges_won")
    )
    return hedges, won


async def test_calls_that_one_replica_keeps_are_answered_by_the_other_and_cancelled(tmp_path: Path, front: str) -> None:
    stalling, sound = Stalling(every=50, most=5), FakeBackend()
    async with hedged(tmp_path, front, stalling, sound) as (gateway, caller):

        async def ask_on() -> int:
            """Call until `most` calls were kept and all of them have ended; return how many calls were made."""
            made = 0
            while len(stalling.kept) < stalling.most or any(call.outcome is None for call in stalling.kept):
                await caller.predict(PAYLOAD)  # with a deadline that no kept call would meet
                made += 1
            return made

        for _ in range(200):
            await caller.predict(PAYLOAD)
        stalling.stalls = True
        async with asyncio.timeout(LONG_S):
            # Several callers: while one's call is kept, the others' answered calls earn the second try that it needs.
            calls = 200 + sum(await asyncio.gather(*(ask_on() for _ in range(3))))
        hedges, won = await counted(gateway)
    assert all(isinstance(call.outcome, Cancelled) for call in stalling.kept)
    # On a busy machine a kept call may have been a second try itself, of one that the sound replica then answered.
    assert 0 < won <= hedges
    assert stalling.most <= hedges <= 0.05 * calls
    # A second try that loses may be cancelled before its server sees it.
    assert calls <= len(stalling.calls) + len(sound.calls) <= calls + hedges


async def test_nothing_is_asked_twice_while_calls_wait(tmp_path: Path, front: str) -> None:
    backends = [FakeBackend(), FakeBackend()]
    async with hedged(tmp_path, front, *backends) as (gateway, caller):
        for _ in range(200):
            await caller.predict(PAYLOAD)
        before, _ = await counted(gateway)
        for backend in backends:
            backend.behave = lambda _: None
        waiting = [asyncio.create_task(caller.predict(PAYLOAD)) for _ in range(16)]
        path = gateway.reloader.routes.paths["alpha", "onnx"].replicas
        async with asyncio.timeout(LONG_S):
            while path.queued < 12:  # noqa: ASYNC110 - batchers tell nobody
                await asyncio.sleep(0.01)
        hedges, _ = await counted(gateway)
        await asyncio.sleep(0.3)  # many times as long as calls took
        assert (await counted(gateway))[0] == hedges
        for backend in backends:
            backend.behave = backend.answer
            for call in list(backend.calls):
                if call.outcome is None:
                    call.end(backend.answer(call))
        await asyncio.gather(*waiting)
    assert before <= 10


async def test_a_path_of_one_replica_is_not_hedged_and_the_log_says_so(
    tmp_path: Path, front: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with hedged(tmp_path, front, FakeBackend()) as (gateway, caller):
            await caller.predict(PAYLOAD)
            assert not isinstance(gateway.reloader.routes.paths["alpha", "onnx"].replicas, HedgingReplicas)
    assert "hedge_percent of alpha@onnx changes nothing: its stack has one address" in caplog.text
