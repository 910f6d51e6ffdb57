"""docs/move-off-torchserve.md with real servers: its blocks are put in place one after another, under live traffic.

Its model `mine` is simple_nn here, and equal biases are equal models (tests/planted.py). Where it waits for days or
for a thousand answers, a few do here.
"""

import asyncio
import re
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
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2
from services.gateway.route_updater import CALLER_KEY
from tests.binomial import bounds
from tests.e2e.real_stack import STOP_S, RealStack
from tests.limits import LONG_S

DOCUMENT = (Path(__file__).parents[2] / "docs/move-off-torchserve.md").read_text()
FENCED = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
CALLERS, SHADOW, BY_HAND, BY_RULE, OTHER_WAY, REMOVED = BLOCKS = [
    block.replace("[models.mine", "[models.simple_nn") for block in FENCED
]
BY_HAND_STEPS = re.findall(r"(\d+) and (\d+)", DOCUMENT.partition("**By hand**:")[2].partition("\n")[0])
MODEL, OLD, NEW = "simple_nn", "simple_nn@torchserve", "simple_nn@onnx"
BIAS, WRONG_BIAS = 1.0, 1.5
X, ANSWER = Tensor("x", "FP32", (1, 2), np.array([[3.0, 1.0]], "<f4").tobytes()), 3.0 + BIAS  # x @ [2, -3] + bias
RATE = 150.0
CALLS = 300  # of which the shares are counted
KEYS = [f"account-{number}" for number in range(40)]
COMPARED = 30  # equal answers of a shadow before the next step
AFTER = 40  # in the place of the document's 1000
WITHIN = 100  # calls after which a shadow must have shown a path that is wrong


class Moving(RealStack):
    """torch_svc, onnx_svc, and a gateway whose deployments file is changed as the document says."""

    def __init__(self, exports: Path, folder: Path) -> None:
        super().__init__(exports, folder, CALLERS)
        self._commands = {name: self._commands[name] for name in ("torch_svc", "onnx_svc", "gateway")}
        self.environment["GATEWAY_STATE"] = str(folder / "state")

    def put(self, text: str) -> str:
        """Put a block in the place of the one before; return its hash."""
        (self.folder / "new.toml").write_text(text)
        (self.folder / "new.toml").replace(self.folder / "deployments.toml")
        return sha256(text.encode()).hexdigest()

    def ask(self) -> subprocess.CompletedProcess[str]:
        """Run `servepath ask`."""
        command = [sys.executable, "-m", "servepath", "ask", MODEL, "--all", "3 1", "--timeout", "120"]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=LONG_S, check=False
        )

    def answered_by_torchserve(self) -> float:
        """Return how many calls TorchServe has answered, by the gateway's metrics."""
        url = f"http://127.0.0.1:{self.environment['GATEWAY_METRICS_PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=LONG_S) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        found = [s for family in families for s in family.samples if s.name == "servepath_requests_total"]
        return sum(sample.value for sample in found if sample.labels["stack"] == "torchserve")

    def log(self) -> str:
        """Return what the gateway has said."""
        return (self.folder / "gateway.log").read_text()


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Moving]:
    """Start everything; the parameter is the bias of the ONNX path."""
    biases = {OLD: BIAS, NEW: request.param}
    code = f"from pathlib import Path; from tests.planted import plant; plant(Path({str(tmp_path)!r}), {biases}, 1)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)
    stack = Moving(tmp_path, tmp_path)
    try:
        stack.start_all()
        yield stack
    finally:
        codes = stack.stop_all()
    assert codes == dict.fromkeys(codes, 0)


class Caller:
    """Calls a gateway; every answer has to be there, and the right one."""

    def __init__(self, channel: aio.Channel, stack: Moving) -> None:
        self._predict = channel.unary_unary(servepath.METHOD)
        self._list_paths = channel.unary_unary(servepath.LIST_PATHS)
        self._stack = stack
        self._calls: list[asyncio.Task[str]] = []  # of the traffic

    async def call(self, name: str = MODEL, key: str = "") -> str:
        """Return the stack that answered."""
        payload = servepath.encode_request(Request(name, 0, (X,)), name, 0)
        metadata = ((CALLER_KEY, key),) if key else ()
        answer = servepath.decode_answer(await self._predict(payload, timeout=LONG_S, metadata=metadata))
        assert float(np.frombuffer(answer.outputs[0].data, "<f4")[0]) == pytest.approx(ANSWER, abs=1e-4)
        return answer.served.stack

    async def pace(self, group: asyncio.TaskGroup) -> None:
        """Call at RATE, each call when it is due, whatever became of those before."""
        due = monotonic()
        while True:
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - monotonic()))
            self._calls.append(group.create_task(self.call()))

    async def answered(self) -> Counter[str]:
        """Return how many of the next CALLS calls of the traffic each stack answered."""
        first = len(self._calls)
        await until(lambda: len(self._calls) >= first + CALLS)
        return Counter(await asyncio.gather(*self._calls[first : first + CALLS]))

    async def all_answered(self) -> None:
        """Wait until every call of the traffic that has begun is answered."""
        await asyncio.gather(*self._calls)

    async def moved(self) -> set[str]:
        """Return which of KEYS are on ONNX."""
        return {key for key in KEYS if await self.call(key=key) == "onnx"}

    async def use(self, text: str) -> None:
        """Put a block in place, and wait until the gateway, which watches the file, uses it."""
        digest = self._stack.put(text)
        await self.until(lambda found: found.deployments_sha256 == digest or found.deployments_error)
        assert (await self._listed()).deployments_error == ""

    async def until(self, condition: Callable[[gateway_pb2.ListPathsResponse], object]) -> None:
        """Wait until ListPaths says something."""
        async with asyncio.timeout(LONG_S):
            while not condition(await self._listed()):  # noqa: ASYNC110 - what is waited for knows no events
                await asyncio.sleep(0.02)

    async def shadow(self, name: str) -> gateway_pb2.Shadow:
        """Return what came of the shadow on a path."""
        return _shadow(await self._listed(), name)

    async def compared(self, name: str) -> None:
        """Wait for COMPARED equal answers of a path's shadow, none of which may be different."""
        await self.until(lambda found: _shadow(found, name).equal >= COMPARED)
        assert (await self.shadow(name)).different == 0

    async def _listed(self) -> gateway_pb2.ListPathsResponse:
        return gateway_pb2.ListPathsResponse.FromString(await self._list_paths(b"", timeout=LONG_S))


def _shadow(found: gateway_pb2.ListPathsResponse, name: str) -> gateway_pb2.Shadow:
    return next(path.shadow for path in found.paths if f"{path.model}@{path.stack}" == name)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.02)


@asynccontextmanager
async def traffic(stack: Moving) -> AsyncIterator[Caller]:
    """Call all the time; the first call that fails, or is answered otherwise, ends the test."""
    async with aio.insecure_channel(stack.gateway) as channel, asyncio.TaskGroup() as group:
        caller = Caller(channel, stack)
        pacing = group.create_task(caller.pace(group))
        yield caller
        pacing.cancel()


def by_rule() -> str:
    """Return the document's rule, with fewer answers before each step."""
    assert "after = 1000\n" in BY_RULE
    return BY_RULE.replace("after = 1000\n", f"after = {AFTER}\n")


def weighted(onnx: str, torchserve: str) -> str:
    """Return the document's weights, with other numbers."""
    assert "onnx = 1\ntorchserve = 99\n" in BY_HAND
    return BY_HAND.replace("onnx = 1\ntorchserve = 99\n", f"onnx = {onnx}\ntorchserve = {torchserve}\n")


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_of_the_document_is_a_file_that_can_be_used(tmp_path: Path, block: str) -> None:
    (tmp_path / "deployments.toml").write_text(block)
    assert [one.model for one in read_deployments(tmp_path / "deployments.toml").models] == [MODEL]


@pytest.mark.slow
@pytest.mark.parametrize("stack", [BIAS], indirect=True)
async def test_every_step_of_the_document_does_what_it_says_and_no_call_fails(stack: Moving) -> None:
    async with traffic(stack) as live:
        await _prove_and_shadow(stack, live)
        await _move_by_hand(live)
        await _move_by_rule(stack, live)
        await _watch_the_other_way(stack, live)
        await _remove(stack, live)


async def _prove_and_shadow(stack: Moving, live: Caller) -> None:
    asked = await asyncio.to_thread(stack.ask)
    assert (asked.returncode, "EQUAL: 2 paths" in asked.stdout) == (0, True)
    await live.use(SHADOW)
    await live.compared(NEW)
    assert await live.answered() == {"torchserve": CALLS}


async def _move_by_hand(live: Caller) -> None:
    before: set[str] = set()
    assert [onnx for onnx, _ in BY_HAND_STEPS] == ["1", "10", "50"]
    for onnx, torchserve in BY_HAND_STEPS:
        await live.use(weighted(onnx, torchserve))
        low, high = bounds(CALLS, int(onnx) / 100)
        assert low <= (await live.answered())["onnx"] <= high
        moved = await live.moved()
        assert before <= moved
        before = moved
    await live.use(SHADOW)  # the way back
    assert await live.answered() == {"torchserve": CALLS}


async def _move_by_rule(stack: Moving, live: Caller) -> None:
    await live.use(by_rule())
    await live.until(lambda found: _shadow(found, NEW).state == "promoted")
    assert await live.answered() == {"onnx": CALLS}
    assert (await live.shadow(NEW)).different == 0
    for step in (1, 10, 50, 100):
        assert f"{NEW} gets {step} % of the calls" in stack.log()
    await live.use(SHADOW)  # the way back
    assert await live.answered() == {"torchserve": CALLS}
    await live.use(by_rule())  # begins again
    await live.until(lambda found: _shadow(found, NEW).state == "promoted")
    assert await live.answered() == {"onnx": CALLS}


async def _watch_the_other_way(stack: Moving, live: Caller) -> None:
    await live.use(OTHER_WAY)
    await live.compared(OLD)
    await live.use(SHADOW)  # the way back
    assert await live.answered() == {"torchserve": CALLS}
    await live.use(OTHER_WAY)
    assert await live.answered() == {"onnx": CALLS}
    await live.all_answered()  # one that began before may have taken longer
    before = await asyncio.to_thread(stack.answered_by_torchserve)
    await live.compared(OLD)
    assert await asyncio.to_thread(stack.answered_by_torchserve) == before  # repeated calls do not count
    assert await live.call(OLD) == "torchserve"
    assert await asyncio.to_thread(stack.answered_by_torchserve) == before + 1


async def _remove(stack: Moving, live: Caller) -> None:
    await live.use(REMOVED)
    with pytest.raises(aio.AioRpcError) as caught:
        await live.call(OLD)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    stack.processes["torch_svc"].terminate()
    assert await asyncio.to_thread(stack.processes["torch_svc"].wait, STOP_S) == 0
    assert await live.answered() == {"onnx": CALLS}
    stack.start("torch_svc")  # the way back
    await live.use(OTHER_WAY)
    await live.compared(OLD)


@pytest.mark.slow
@pytest.mark.parametrize("stack", [WRONG_BIAS], indirect=True)
async def test_an_onnx_path_with_wrong_weights_is_found_and_answers_no_caller(stack: Moving) -> None:
    asked = await asyncio.to_thread(stack.ask)
    assert (asked.returncode, "DIFFERENT: 2 paths" in asked.stdout) == (1, True)
    async with aio.insecure_channel(stack.gateway) as channel:
        caller = Caller(channel, stack)
        await caller.use(SHADOW)
        for _ in range(WITHIN):
            assert await caller.call() == "torchserve"
        await caller.until(lambda found: _shadow(found, NEW).different)
    async with traffic(stack) as live:
        await live.use(by_rule())
        await live.until(lambda found: _shadow(found, NEW).state.startswith("rolled back: an answer was different"))
        assert await live.answered() == {"torchserve": CALLS}
        await live.use(SHADOW)
        await live.use(by_rule())  # begins again, and ends so again
        await live.until(lambda found: _shadow(found, NEW).state.startswith("rolled back: an answer was different"))
        assert await live.answered() == {"torchserve": CALLS}
    assert f"{NEW} goes back from 0 % of the calls" in stack.log()
    assert f"{NEW} gets" not in stack.log()
