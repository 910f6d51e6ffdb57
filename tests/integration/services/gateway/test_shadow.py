"""A shadow over real gRPC: one with wrong weights is found, and no caller ever gets its answer."""

import asyncio
import struct
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from servepath.protocols import oip, paths, servepath
from servepath.protocols.deployments import SHADOW_IN_FLIGHT, DeploymentsError
from servepath.protocols.errors import BackendUnavailable
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Request, Tensor
from services.dataplane.backend import Call
from services.gateway.__main__ import start
from services.gateway.config import Settings
from services.gateway.server import Gateway, create_gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.limits import LONG_S

DEPLOYMENTS = """
[gateway]
probe_interval_s = 3600
default_deadline_s = 120
[servers.other]
protocol = "oip"
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
[models.alpha.stacks.other]
[models.alpha.shadow]
stack = "other"
percent = 20
"""
PROMOTED = f"""{DEPLOYMENTS.replace("percent = 20", "percent = 100")}[models.alpha.shadow.promote]
after = 10
steps = [50, 100]
"""
CALLS = 100


@dataclass
class Bench:
    """A gateway, and what answers its callers and its shadow."""

    gateway: Gateway
    channel: aio.Channel
    live: FakeBackend
    shadow: FakeBackend

    async def ask(self, number: int, name: str = "alpha") -> float:
        """Return the answer to a row whose sum is `number`; by each of the two protocols in turn."""
        request = Request(name, 0, (Tensor("x", "FP32", (1, 2), struct.pack("<2f", number, 0)),))
        codec = oip if number % 2 else servepath
        reply = await self.channel.unary_unary(codec.METHOD)(codec.encode_request(request, name, 0), timeout=LONG_S)
        answer = oip.decode_answer(reply, "", "") if number % 2 else servepath.decode_answer(reply)
        return float(struct.unpack("<f", answer.outputs[0].data)[0])

    async def seen(self) -> paths.ShadowInfo:
        listed = await self.channel.unary_unary(servepath.LIST_PATHS)(b"", timeout=LONG_S)
        first, second = paths.decode_answer(listed)
        assert first.shadow is None
        assert second.shadow is not None
        return second.shadow

    async def weights(self) -> dict[str, float]:
        listed = await self.channel.unary_unary(servepath.LIST_PATHS)(b"", timeout=LONG_S)
        return {path.stack: path.weight for path in paths.decode_answer(listed)}

    async def metrics(self) -> list[str]:
        def read() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.metrics_port}/metrics", timeout=LONG_S) as got:
                return got.read().decode()

        return (await asyncio.to_thread(read)).splitlines()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


def settings(folder: Path, front: str, stacks: Sequence[FakeStack], **more: Any) -> Settings:
    return Settings(
        deployments=folder / "deployments.toml",
        exports=folder / "exports",
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=False,
        addresses=dict(zip(("onnx", "other"), (stack.address for stack in stacks), strict=True)),
        files=service_files({}, folder),
        front=front,
        state=folder / "state",
        **more,
    )


@asynccontextmanager
async def started(folder: Path, front: str, deployments: str) -> AsyncIterator[Bench]:
    """Start a gateway before two servers that answer alike."""
    if not (folder / "exports").exists():
        make_export(folder / "exports", "alpha", "onnx")
    (folder / "deployments.toml").write_text(deployments)
    stacks = [await FakeStack(FakeBackend()).start() for _ in range(2)]
    gateway = await create_gateway(settings(folder, front, stacks))

    async def ready() -> bool:
        return gateway.backend.ready()

    try:
        await until(ready)
        async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            yield Bench(gateway, channel, stacks[0].backend, stacks[1].backend)
    finally:
        await gateway.drain()
        await gateway.close()
        for stack in stacks:
            await stack.stop()


@pytest.fixture
async def bench(tmp_path: Path, front: str) -> AsyncIterator[Bench]:
    async with started(tmp_path, front, DEPLOYMENTS) as bench:
        yield bench


async def test_wrong_weights_are_found_within_100_requests_and_reach_no_caller(bench: Bench) -> None:
    bench.shadow.bias = 0.5
    assert [await bench.ask(number) for number in range(CALLS)] == list(range(CALLS))

    async def found() -> bool:
        """Return whether something was found, and nothing is under way."""
        before = (await bench.seen()).different
        await asyncio.sleep(0.1)
        ended = all(call.outcome is not None for call in bench.shadow.calls)
        return 0 < before == (await bench.seen()).different and ended

    await until(found)
    shadow = await bench.seen()
    assert (shadow.percent, shadow.equal, shadow.difference) == (20, 0, 0.5)
    assert shadow.said == "output 'y' is 0.5 apart from that of alpha@onnx, beyond rtol 2e-05, atol 2e-05"
    lines = await bench.metrics()
    labels = 'model="alpha",stack="other"'
    assert f'servepath_shadow_total{{{labels},verdict="different"}} {shadow.different:.1f}' in lines
    assert f"servepath_shadow_largest_difference{{{labels}}} 0.5" in lines
    # One who asks for the shadow's path gets it, and is not repeated.
    before = len(bench.shadow.calls)
    assert await bench.ask(1, "alpha@other") == 1.5
    assert len(bench.shadow.calls) == before + 1


async def test_callers_are_answered_while_the_shadow_hangs_and_calls_beyond_the_bound_are_dropped(bench: Bench) -> None:
    asked: list[Call] = []
    bench.shadow.behave = asked.append
    assert [await bench.ask(number) for number in range(2 * CALLS)] == list(range(2 * CALLS))
    shadow = await bench.seen()
    assert (shadow.equal, shadow.different, shadow.failed, shadow.late) == (0, 0, 0, 0)
    assert shadow.dropped > 0
    assert len(asked) <= SHADOW_IN_FLIGHT


async def test_equal_answers_promote_a_restart_goes_on_and_a_difference_leads_back(tmp_path: Path, front: str) -> None:
    async with started(tmp_path, front, PROMOTED) as bench:

        async def asked_until_half() -> bool:
            assert await bench.ask(3) == 3
            return (await bench.seen()).state == "at 50 %"

        assert (await bench.seen()).state == "waiting"
        await until(asked_until_half)
        assert await bench.weights() == {"onnx": 50, "other": 50}
        assert 'servepath_shadow_promoted_percent{model="alpha",stack="other"} 50.0' in await bench.metrics()
    async with started(tmp_path, front, PROMOTED) as bench:
        assert (await bench.seen()).state == "at 50 %"

        async def asked_until_promoted() -> bool:
            await bench.ask(3)
            return (await bench.seen()).state == "promoted"

        await until(asked_until_promoted)
        assert await bench.weights() == {"onnx": 0, "other": 100}
        bench.shadow.bias = 0.5

        async def rolled_back() -> bool:
            return (await bench.seen()).state.startswith(
                "rolled back: an answer was different: output 'y' is 0.5 apart"
            )

        # By name, the other path is still asked, and repeated.
        assert await bench.ask(3, "alpha@onnx") == 3
        await until(rolled_back)
        assert await bench.weights() == {"onnx": 100, "other": 0}
        assert [await bench.ask(number) for number in range(10)] == list(range(10))


async def test_a_reload_keeps_what_is_known_of_a_shadow_until_its_table_is_another(tmp_path: Path, front: str) -> None:
    async with started(tmp_path, front, PROMOTED) as bench:

        async def reload(text: str) -> None:
            (tmp_path / "deployments.toml").write_text(text)
            reloader, used = bench.gateway.reloader, sha256(text.encode()).hexdigest()
            reloader.ask()

            async def in_use() -> bool:
                return reloader.sha256 == used

            await until(in_use)

        async def asked_until_half() -> bool:
            await bench.ask(3)
            return (await bench.seen()).state == "at 50 %"

        await until(asked_until_half)
        equal = (await bench.seen()).equal
        await reload(f"{PROMOTED}# the same\n")
        seen = await bench.seen()
        assert (seen.state, await bench.weights()) == ("at 50 %", {"onnx": 50, "other": 50})
        assert seen.equal >= equal
        bench.shadow.bias = 0.5

        async def asked_until_rolled_back() -> bool:
            await bench.ask(3)
            return (await bench.seen()).state.startswith("rolled back")

        await until(asked_until_rolled_back)
        assert [await bench.ask(number) for number in range(10)] == list(range(10))
        bench.shadow.bias = 0.0
        await reload(PROMOTED.replace("percent = 100", "percent = 99"))
        assert (await bench.seen()).state == "waiting"
        await reload(DEPLOYMENTS[: DEPLOYMENTS.index("[models.alpha.shadow]")])
        assert not [line for line in await bench.metrics() if line.startswith("servepath_shadow_largest_difference{")]


async def test_a_stack_that_fails_while_it_is_promoted_costs_no_call_where_there_is_a_fallback(
    tmp_path: Path, front: str
) -> None:
    text = PROMOTED.replace('default = "onnx"', 'default = "onnx"\nfallback = ["other"]')
    async with started(tmp_path, front, text) as bench:

        async def asked_until_half() -> bool:
            await bench.ask(3)
            return (await bench.seen()).state == "at 50 %"

        await until(asked_until_half)
        bench.shadow.behave = lambda _: BackendUnavailable("it is gone")
        assert [await bench.ask(number) for number in range(40)] == list(range(40))

        async def asked_until_rolled_back() -> bool:
            await bench.ask(3)
            return (await bench.seen()).state == "rolled back: 6 of the last 10 calls failed or were late"

        await until(asked_until_rolled_back)


async def test_several_workers_refuse_to_promote(tmp_path: Path, front: str) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    (tmp_path / "deployments.toml").write_text(PROMOTED)
    stacks = [FakeStack(FakeBackend()) for _ in range(2)]
    said = "counts answers in one process; start with --workers 1, or remove it"
    with pytest.raises(DeploymentsError, match=said):
        await start(settings(tmp_path, front, stacks, workers=2))
    with pytest.raises(DeploymentsError, match=said):
        await create_gateway(settings(tmp_path, front, stacks, worker_of=0))
