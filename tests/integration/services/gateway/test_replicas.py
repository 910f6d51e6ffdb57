"""Replicas and fallback over real gRPC: servers that go take no answer with them."""

import asyncio
import struct
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc import aio

from servepath.protocols import servepath
from servepath.protocols.errors import BackendBadReply, BackendUnavailable
from servepath.protocols.status import PUSHBACK_KEY
from servepath.protocols.types import Request, Tensor
from services.dataplane.backend import Call, Outcome
from services.gateway.ejection import FAILURES
from services.gateway.server import Gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import Caller, running, settings
from tests.limits import LONG_S
from tests.ports import free_ports

DEPLOYMENTS = """
[servers.other]
protocol = "oip"
[models.alpha]
default = "onnx"
fallback = ["other"]
[models.alpha.stacks.onnx]
[models.alpha.stacks.other]
"""
CALLERS = 8
# A pause beyond every deadline.
LONG_MS = 1000 * int(LONG_S)

X = Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2))


def payload(name: str = "alpha") -> bytes:
    return servepath.encode_request(Request(name, 0, (X,)), name, 0)


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG_S) as reply:
        return reply.read().decode()


@asynccontextmanager
async def in_front_of(folder: Path, stacks: list[FakeStack], front: str) -> AsyncIterator[tuple[Gateway, Caller]]:
    """Run a gateway whose path on onnx has all stacks but the last as replicas; that one is `other`."""
    make_export(folder / "exports", "alpha", "onnx")
    for stack in stacks:
        await stack.start()
    addresses = {"onnx": ",".join(stack.address for stack in stacks[:-1]), "other": stacks[-1].address}
    try:
        async with running(settings(folder, DEPLOYMENTS, addresses, front)) as (gateway, caller):
            await usable(caller, len(stacks) - 1)
            yield gateway, caller
    finally:
        for stack in stacks:
            await stack.stop()


async def usable(caller: Caller, count: int) -> None:
    """Wait until so many replicas on onnx get calls, and the other path is ready."""
    async with asyncio.timeout(LONG_S):
        while True:
            paths = {path.stack: path for path in (await caller.list_paths()).paths}
            if paths["onnx"].replicas_usable == count and paths["other"].ready:
                return
            await asyncio.sleep(0.05)


async def test_replicas_share_the_calls_and_one_that_is_stopped_under_load_costs_none(
    tmp_path: Path, front: str
) -> None:
    stacks = [FakeStack(FakeBackend(), port) for port in free_ports(3)]
    async with in_front_of(tmp_path, stacks, front) as (_, caller):
        ending, answered = asyncio.Event(), Counter[str]()

        async def call() -> None:
            while not ending.is_set():
                answered[(await caller.predict(payload("alpha@onnx"))).served.stack] += 1

        calling = [asyncio.create_task(call()) for _ in range(CALLERS)]
        for _ in range(3):
            seen = [len(stack.backend.calls) for stack in stacks[:2]]
            async with asyncio.timeout(LONG_S):
                while any(len(s.backend.calls) < n + 20 for s, n in zip(stacks[:2], seen, strict=True)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await stacks[0].stop()
            await usable(caller, 1)
            stacks[0] = await FakeStack(stacks[0].backend, stacks[0].port).start()
            await usable(caller, 2)
        ending.set()
        await asyncio.gather(*calling)  # an error would be raised here
    assert answered.keys() == {"onnx"}


async def test_where_all_replicas_are_gone_the_next_path_answers_and_the_exact_path_says_so(
    tmp_path: Path, front: str
) -> None:
    stacks = [FakeStack(FakeBackend(), port) for port in free_ports(3)]
    async with in_front_of(tmp_path, stacks, front) as (_, caller):
        assert (await caller.predict(payload())).served.stack == "onnx"
        for stack in stacks[:2]:
            await stack.stop()
        answers = [await caller.predict(payload()) for _ in range(20)]
        assert {answer.served.stack for answer in answers} == {"other"}
        with pytest.raises(aio.AioRpcError) as caught:
            await caller.predict(payload("alpha@onnx"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stacks[:2] = [await FakeStack(stack.backend, stack.port).start() for stack in stacks[:2]]
        await usable(caller, 2)
        assert (await caller.predict(payload())).served.stack == "onnx"


async def test_a_replica_that_fails_one_call_after_the_other_is_left_alone_though_it_answers_its_probes(
    tmp_path: Path, front: str
) -> None:
    stacks = [FakeStack(FakeBackend()) for _ in range(3)]
    async with in_front_of(tmp_path, stacks, front) as (gateway, caller):
        broken = stacks[0].backend
        # X is what callers send, and no probe does.
        broken.behave = lambda call: BackendBadReply("broken") if call.request.inputs == (X,) else broken.answer(call)
        found = Counter[str]()
        async with asyncio.timeout(LONG_S):
            while "servepath_ejections_total" not in found:
                try:
                    await caller.predict(payload("alpha@onnx"))
                except aio.AioRpcError as error:
                    found[error.code().name] += 1
                text = await asyncio.to_thread(metrics, gateway.metrics_port)
                if 'servepath_ejections_total{model="alpha",stack="onnx"} 0.0' not in text:
                    found["servepath_ejections_total"] += 1
        assert found["INTERNAL"] >= FAILURES
        broken.behave = lambda _: BackendBadReply("broken")  # or a probe a second later would bring it back
        answers = [await caller.predict(payload("alpha@onnx")) for _ in range(5)]
        assert len(answers) == 5


@pytest.mark.parametrize(
    ("pause_ms", "told"),
    [(20, ""), (LONG_MS, str(LONG_MS)), (None, "-1")],
    ids=["short", "beyond the deadline", "no other try"],
)
async def test_after_a_servers_pause_another_replica_is_asked_or_none_and_the_caller_is_told_the_pause(
    tmp_path: Path, front: str, pause_ms: int | None, told: str
) -> None:
    stacks = [FakeStack(FakeBackend()) for _ in range(3)]
    async with in_front_of(tmp_path, stacks, front) as (_, caller):
        refused: list[Call] = []

        def refuse_once(backend: FakeBackend, call: Call) -> Outcome:
            if call.request.inputs[0] != X or refused:  # a probe, or the next try
                return backend.answer(call)
            refused.append(call)
            error = BackendUnavailable("restarting")
            error.retry_after_ms = pause_ms
            return error

        for stack in stacks[:2]:
            stack.backend.behave = partial(refuse_once, stack.backend)
        if told:
            with pytest.raises(aio.AioRpcError) as failed:
                await caller.predict(payload("alpha@onnx"))
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert dict(failed.value.trailing_metadata() or ())[PUSHBACK_KEY] == told
        else:
            assert (await caller.predict(payload("alpha@onnx"))).served.stack == "onnx"
        assert len(refused) == 1
