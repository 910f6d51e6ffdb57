"""Route policies in front of real servers: split, replicas that are killed, fallback, reloads under load.

Every path's weights have a bias of their own, so that an answer betrays who computed it.
"""

import asyncio
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic

import grpc
import numpy as np
import pytest
from grpc import aio
from prometheus_client.parser import text_string_to_metric_families

from servepath.protocols import servepath
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2
from services.gateway.route_updater import CALLER_KEY
from tests.binomial import bounds
from tests.e2e.real_stack import RealStack, free_ports
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

BIASES = {"simple_nn@onnx": 1.0, "simple_nn@torchserve": 2.0}
# tests/planted.py: every planted path answers x @ [2, -3] + its bias.
X = Tensor("x", "FP32", (1, 2), np.array([[3.0, 1.0]], "<f4").tobytes())
WITHOUT_BIAS = 3.0
STACKS = "[models.simple_nn.stacks.onnx]\n[models.simple_nn.stacks.torchserve]\n"
MODEL = '[models.simple_nn]\ndefault = "onnx"\n'
WEIGHTED = f"{MODEL}[models.simple_nn.weights]\nonnx = 90\ntorchserve = 10\n{STACKS}"
PLAIN = f"{MODEL}{STACKS}"
ON_TORCHSERVE = PLAIN.replace('"onnx"', '"torchserve"')
FALLING_BACK = f'{MODEL}fallback = ["torchserve"]\n{STACKS}'
BAD = FALLING_BACK.replace('["torchserve"]', '["torch"]')
CALLS, CALLERS, KEYS = 20_000, 16, 100
KILLS = 20
RELOADS = 100


class Routed(RealStack):
    """Two replicas of onnx_svc and a torch_svc behind a gateway whose deployments file the tests change."""

    def __init__(self, exports: Path, folder: Path) -> None:
        super().__init__(exports, folder, WEIGHTED)
        self._exports = exports
        self._second = free_ports()
        self._commands = {name: self._commands[name] for name in ("torch_svc", "onnx_svc", "gateway")}
        self.environment["ONNX_SVC_ADDR"] += f",127.0.0.1:{self._second['ONNX_SVC_PORT']}"

    def start_all(self) -> None:
        self.start_second()
        super().start_all()

    def start_second(self) -> None:
        """Start the second replica of onnx_svc."""
        command = [sys.executable, "-m", "services.onnx_svc", "--models", str(self._exports)]
        ports = {name: self._second[name] for name in ("ONNX_SVC_PORT", "ONNX_SVC_METRICS_PORT")}
        with (self.folder / "second.log").open("ab") as log:
            self.processes["second"] = subprocess.Popen(command, env=self.environment | ports, stdout=log, stderr=log)

    def reload(self, text: str) -> None:
        """Put a deployments file in the place of the one before, and say so to the gateway."""
        (self.folder / "new.toml").write_text(text)
        (self.folder / "new.toml").replace(self.folder / "deployments.toml")
        self.processes["gateway"].send_signal(signal.SIGHUP)

    def retried(self) -> float:
        """Return how many calls were sent again to another replica of onnx_svc, by the gateway's metrics."""
        url = f"http://127.0.0.1:{self.environment['GATEWAY_METRICS_PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=LONG_S) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        found = [s for family in families for s in family.samples if s.name == "servepath_retries_total"]
        return sum(sample.value for sample in found if sample.labels == {"model": "simple_nn", "stack": "onnx"})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    folder = tmp_path_factory.mktemp("routed")
    code = f"from pathlib import Path; from tests.planted import plant; plant(Path({str(folder)!r}), {BIASES}, 1)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)
    stack = Routed(folder, folder)
    try:
        stack.start_all()
        yield stack
    finally:
        codes = stack.stop_all()
    assert codes == dict.fromkeys(codes, 0)


class Caller:
    """Calls the gateway, and knows by the bias which path answered."""

    def __init__(self, channel: aio.Channel) -> None:
        self._predict = channel.unary_unary(servepath.METHOD)
        self._list_paths = channel.unary_unary(servepath.LIST_PATHS)

    async def stack_of(self, name: str = "simple_nn", key: str = "", timeout_s: float = LONG_S) -> str:
        """Return the stack that an answer says, which is checked."""
        payload = servepath.encode_request(Request(name, 0, (X,)), name, 0)
        answer = servepath.decode_answer(
            await self._predict(payload, timeout=timeout_s, metadata=((CALLER_KEY, key),) if key else ())
        )
        value = float(np.frombuffer(answer.outputs[0].data, "<f4")[0])
        assert value - WITHOUT_BIAS == pytest.approx(BIASES[f"simple_nn@{answer.served.stack}"], abs=1e-4)
        return answer.served.stack

    async def listed(self) -> gateway_pb2.ListPathsResponse:
        return gateway_pb2.ListPathsResponse.FromString(await self._list_paths(b"", timeout=LONG_S))

    async def until(self, condition: Callable[[gateway_pb2.ListPathsResponse], bool]) -> None:
        async with asyncio.timeout(LONG_S):
            while not condition(await self.listed()):  # noqa: ASYNC110 - what is waited for knows no events
                await asyncio.sleep(0.05)

    async def until_usable(self, replicas: int) -> None:
        await self.until(lambda found: {p.stack: p.replicas_usable for p in found.paths}["onnx"] == replicas)

    async def reloaded(self, stack: Routed, text: str) -> None:
        """Reload and wait until the file is in use."""
        stack.reload(text)
        await self.until(lambda found: found.deployments_sha256 == sha256(text.encode()).hexdigest())


@pytest.fixture
async def caller(stack: Routed) -> AsyncIterator[Caller]:
    async with aio.insecure_channel(stack.gateway) as channel:
        yield Caller(channel)


@asynccontextmanager
async def load(caller: Caller, rate: float) -> AsyncIterator[Counter[str]]:
    """Call at a rate, each call when it is due, whatever became of those before; every one has to be answered."""
    answered, ending, calls = Counter[str](), asyncio.Event(), set[asyncio.Task[None]]()

    async def call() -> None:
        answered[await caller.stack_of()] += 1

    async def pace() -> None:
        due = monotonic()
        while not ending.is_set():
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - monotonic()))
            calls.add(asyncio.create_task(call()))

    pacing = asyncio.create_task(pace())
    try:
        yield answered
    finally:
        ending.set()
        await pacing
        await asyncio.gather(*calls)  # an error would be raised here
    assert len(calls) == answered.total()


async def test_a_split_of_90_to_10_is_within_binomial_bounds_and_keys_stay(stack: Routed, caller: Caller) -> None:
    await caller.reloaded(stack, WEIGHTED)
    numbers, found = iter(range(CALLS)), Counter[str]()

    async def call() -> None:
        for _ in numbers:
            found[await caller.stack_of()] += 1

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    low, high = bounds(CALLS, 0.1)
    assert low <= found["torchserve"] <= high
    keys = [f"account-{number}" for number in range(KEYS)]
    first, again = [await caller.stack_of(key=key) for key in keys], [await caller.stack_of(key=key) for key in keys]
    assert first == again
    await caller.reloaded(stack, WEIGHTED.replace("90", "60").replace("10", "40"))
    later = [await caller.stack_of(key=key) for key in keys]
    assert all(new == "torchserve" for old, new in zip(first, later, strict=True) if old == "torchserve")
    assert later.count("torchserve") > first.count("torchserve")


async def test_a_replica_that_is_killed_under_load_twenty_times_costs_no_call(stack: Routed, caller: Caller) -> None:
    await caller.reloaded(stack, FALLING_BACK)
    await caller.until_usable(2)
    before = await asyncio.to_thread(stack.retried)
    async with load(caller, 150) as answered:
        for kill in range(KILLS):
            stack.kill(("second", "onnx_svc")[kill % 2])
            await caller.until_usable(1)
            (stack.start_second if kill % 2 == 0 else lambda: stack.start("onnx_svc"))()
            await caller.until_usable(2)
    assert await asyncio.to_thread(stack.retried) > before
    # By the other replica; by the fallback where a busy machine holds that one up for longer than a probe may take.
    assert answered["onnx"] > 0.9 * answered.total()


async def test_with_all_replicas_dead_the_fallback_answers_within_the_same_deadline(
    stack: Routed, caller: Caller
) -> None:
    await caller.reloaded(stack, FALLING_BACK)
    async with load(caller, 50):
        for name in ("second", "onnx_svc"):
            stack.kill(name)
        await caller.until_usable(0)
        assert await caller.stack_of(timeout_s=30) == "torchserve"
        with pytest.raises(aio.AioRpcError) as caught:
            await caller.stack_of("simple_nn@onnx")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stack.start_second()
        stack.start("onnx_svc")
        await caller.until_usable(2)
    assert await caller.stack_of() == "onnx"


async def test_a_hundred_reloads_under_load_with_every_fifth_file_bad(stack: Routed, caller: Caller) -> None:
    # Without a fallback, which would answer where a busy machine holds up the probe of the path that is the default.
    await caller.reloaded(stack, PLAIN)
    async with load(caller, 50):
        name = "onnx"
        for number in range(RELOADS):
            if number % 5 == 4:
                stack.reload(BAD)
                await caller.until(lambda found: "fallback has 'torch'" in found.deployments_error)
            else:
                name = "torchserve" if name == "onnx" else "onnx"
                await caller.reloaded(stack, PLAIN if name == "onnx" else ON_TORCHSERVE)
            assert [await caller.stack_of() for _ in range(3)] == [name] * 3
