"""What hedging does to the slowest calls of servers that stall 1 % of theirs, measured; and to overload: nothing.

`python -m pytest -s -m slow tests/integration/services/gateway/test_hedging_tail.py` prints the figures. Everything
shares one process and its event loop, whose own pauses are in them: the machine should have nothing else to do.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from time import perf_counter

import pytest
from grpc import aio

from servepath.protocols.errors import Cancelled
from services.dataplane.backend import Call, Outcome
from services.gateway.hedging import HedgingReplicas
from services.gateway.server import Gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import Caller, running, settings
from tests.integration.services.gateway.test_hedging import PAYLOAD, counted
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

STALL_S, STALLED = 0.2, 0.01
ROUNDS, CALLS, RATE = 5, 1500, 100.0
SERVICE_S = 0.02
DEPLOYMENTS = """
[gateway]
probe_interval_s = 3600
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
max_merge_rows = 1
max_in_flight = {max_in_flight}
max_queue = {max_queue}
hedge_percent = {percent}
"""


class Stalling(FakeBackend):
    """Takes STALL_S for STALLED of its calls; all others at once, or one after the other, `service_s` each."""

    def __init__(self, seed: int, service_s: float = 0.0) -> None:
        super().__init__()
        self.behave = self._later
        self.stalled: list[Call] = []
        self._random = Random(seed)  # noqa: S311 - stalls, not secrets
        self._service_s = service_s
        self._free_at = 0.0

    def _later(self, call: Call) -> Outcome | None:
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + self._service_s
        at = self._free_at
        if self._random.random() < STALLED:
            self.stalled.append(call)
            at += STALL_S
        elif not self._service_s:
            return self.answer(call)
        loop.call_at(at, lambda: call.end(self.answer(call)))
        return None


@asynccontextmanager
async def gateways(
    folder: Path, backends: list[Stalling], *, percents: tuple[int, ...], max_in_flight: int, max_queue: int
) -> AsyncIterator[list[tuple[Gateway, Caller]]]:
    """Run a gateway for each of these values of hedge_percent, all in front of the same servers."""
    async with AsyncExitStack() as stack:
        servers = [await FakeStack(backend, front="native").start() for backend in backends]
        for server in servers:
            stack.push_async_callback(server.stop)
        addresses = {"onnx": ",".join(server.address for server in servers)}
        found = []
        for percent in percents:
            own = folder / str(percent)
            own.mkdir()
            make_export(own / "exports", "alpha", "onnx")
            text = DEPLOYMENTS.format(percent=percent, max_in_flight=max_in_flight, max_queue=max_queue)
            gateway, caller = await stack.enter_async_context(running(settings(own, text, addresses)))
            async with asyncio.timeout(LONG_S):
                while (await caller.list_paths()).paths[0].replicas_usable < len(backends):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            found.append((gateway, caller))
        yield found


async def load(caller: Caller, calls: int, rate: float, seed: int) -> tuple[list[float], Counter[str]]:
    """Return what each call took in ms, from when it was due, and how the calls ended; open loop, exponential gaps."""
    random, took_ms, ended = Random(seed), list[float](), Counter[str]()  # noqa: S311 - arrivals, not secrets

    async def call(due: float) -> None:
        try:
            await caller.predict(PAYLOAD)
            ended["OK"] += 1
        except aio.AioRpcError as error:
            ended[error.code().name] += 1
        took_ms.append(1e3 * (perf_counter() - due))

    due, tasks = perf_counter(), []
    for _ in range(calls):
        due += random.expovariate(rate)
        await asyncio.sleep(max(0.0, due - perf_counter()))
        tasks.append(asyncio.create_task(call(due)))
    await asyncio.gather(*tasks)
    return took_ms, ended


def shown(took_ms: list[float]) -> str:
    ordered = sorted(took_ms)
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in SHARES.items()}
    return ", ".join(f"{name} {value:.1f} ms" for name, value in at.items())


SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


async def test_stalled_calls_are_answered_by_the_other_replica_with_at_most_5_percent_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backends = [Stalling(1), Stalling(2)]
    # A queue for all: after a pause of the machine many calls come at once.
    running_both = gateways(tmp_path, backends, percents=(0, 5), max_in_flight=8, max_queue=CALLS)
    async with running_both as ((_, plain), (gateway, hedged)):
        took_ms: dict[str, list[float]] = {"without": [], "with": []}
        stalled = []
        for caller in (plain, hedged):
            await load(caller, 500, RATE, 0)
        before, _ = await counted(gateway)
        for number in range(1, ROUNDS + 1):
            for name, caller in (("without", plain), ("with", hedged))[:: 1 if number % 2 else -1]:
                seen = [len(backend.stalled) for backend in backends]
                found, ended = await load(caller, CALLS, RATE, number)
                assert ended == {"OK": CALLS}
                took_ms[name] += found
                if name == "with":
                    stalled += [call for one, n in zip(backends, seen, strict=True) for call in one.stalled[n:]]
        hedges, won = await counted(gateway)
    cancelled = sum(isinstance(call.outcome, Cancelled) for call in stalled)
    lines = []
    for name, found in took_ms.items():
        lines.append(f"{name:>7} hedging: {len(found)} calls, {shown(found)}")
        lines += [f"        a round: {shown(found[at : at + CALLS])}" for at in range(0, len(found), CALLS)]
    extra = 100 * (hedges - before) / len(took_ms["with"])
    lines.append(f"{hedges - before:.0f} extra calls ({extra:.2f} %), {won:.0f} of all {hedges:.0f} won")
    lines.append(f"{len(stalled)} calls stalled, {cancelled} of them answered by the other replica")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert hedges - before <= 0.05 * (len(took_ms["with"]) + 500)
    # Without hedging none are. Some stall at both, or while nothing may be asked twice: many on a busy machine.
    assert cancelled >= 0.5 * len(stalled)


async def test_under_twice_the_load_that_the_servers_can_take_nothing_is_asked_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backends = [Stalling(3, SERVICE_S), Stalling(4, SERVICE_S)]
    capacity = len(backends) / SERVICE_S
    async with gateways(tmp_path, backends, percents=(5,), max_in_flight=2, max_queue=64) as [(gateway, caller)]:
        await load(caller, 400, capacity / 4, 0)
        replicas = gateway.reloader.routes.paths["alpha", "onnx"].replicas
        assert isinstance(replicas, HedgingReplicas)
        overload = asyncio.create_task(load(caller, round(20 * capacity), 2 * capacity, 1))
        async with asyncio.timeout(LONG_S):
            while replicas.queued < 40:  # noqa: ASYNC110 - batchers tell nobody
                await asyncio.sleep(0.01)
        before = during = (await counted(gateway))[0]
        async with asyncio.timeout(LONG_S):
            while replicas.queued:
                found, _ = await counted(gateway)
                during = found if replicas.queued else during
                await asyncio.sleep(0.1)
        took_ms, ended = await overload
    with capsys.disabled():
        sys.stdout.write(
            f"\ntwice the capacity: {len(took_ms)} calls, {dict(ended)}; {before:.0f} extra calls before, "
        )
        sys.stdout.write(f"{during - before:.0f} while calls waited\n")
    assert ended["RESOURCE_EXHAUSTED"] > len(took_ms) / 4
    assert during == before
