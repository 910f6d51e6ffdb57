"""Merging through a real gateway: what reaches the server, and what each caller gets."""

import asyncio
import struct
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from servepath.artifacts.spec import TensorSpec
from servepath.protocols import oip, servepath
from servepath.protocols.errors import BadInput
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane.backend import Call
from services.gateway.config import Settings
from services.gateway.ejection import FAILURES
from services.gateway.server import Gateway, create_gateway
from tests import gateways
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.limits import LONG_S
from tests.manifests import SPEC
from tests.oip_client import code_and_reason

DEPLOYMENTS = """
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
max_in_flight = 1
"""
# Floats of a row of an answer; the largest message of a path, which holds an answer of 5 such rows, and none of 10.
WIDTH, MAX_BYTES = 64, 2048


class Held(FakeBackend):
    """Keeps the first call after the probe until it is let go; what comes meanwhile waits in the gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Call | None = None
        self.sent: list[int] = []
        self.poison: float | None = None
        self.behave = self.hold

    def hold(self, call: Call) -> Answer | BadInput | None:
        (x,) = call.request.inputs
        values = struct.unpack(f"<{len(x.data) // 4}f", x.data)
        if not any(values):
            return self.answer(call)
        self.sent.append(x.shape[0])
        if self.first is None:
            self.first = call
            return None
        return BadInput("poison") if self.poison in values else self.answer(call)

    def let_go(self) -> None:
        assert self.first is not None
        self.first.end(self.answer(self.first))


class Wide(Held):
    """Repeats each element of the answer WIDTH times."""

    def answer(self, call: Call) -> Answer:
        sums = rows_of(super().answer(call))
        data = struct.pack(f"<{WIDTH * len(sums)}f", *(value for value in sums for _ in range(WIDTH)))
        return Answer((Tensor("y", "FP32", (len(sums), WIDTH), data),), self.served)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - counts have no event
            await asyncio.sleep(0.005)


class Bench:
    def __init__(self, gateway: Gateway, held: Held, channel: aio.Channel) -> None:
        self.gateway = gateway
        self.held = held
        self.channel = channel

    def ask(self, number: float, rows: int = 1, model: str = "alpha") -> "asyncio.Task[Answer]":
        tensor = Tensor("x", "FP32", (rows, 2), struct.pack("<2f", number, 0) * rows)
        codec = oip if model == "alpha@onnx" else servepath
        payload = codec.encode_request(Request(model, 0, (tensor,)), model, 0)

        async def answer() -> Answer:
            reply = await self.channel.unary_unary(codec.METHOD)(payload, timeout=LONG_S)
            return oip.decode_answer(reply, "", "") if codec is oip else servepath.decode_answer(reply)

        return asyncio.create_task(answer())

    async def ask_all(self) -> "list[asyncio.Task[Answer]]":
        """Predict six times, under both names of one path, while the first call keeps the others waiting."""
        tasks = [self.ask(100)]
        await until(lambda: self.held.first is not None)
        tasks += [self.ask(n, rows=n, model="alpha@onnx" if n % 2 else "alpha") for n in range(1, 6)]
        await until(lambda: self.gateway.data_plane.in_flight == 6)
        return tasks


@pytest.fixture(params=[True, False], ids=["row-independent", "row-dependent"])
def row_independent(request: pytest.FixtureRequest) -> bool:
    answer: bool = request.param
    return answer


@pytest.fixture
async def bench(tmp_path: Path, row_independent: bool, front: str) -> AsyncIterator[Bench]:  # noqa: FBT001 - a fixture
    make_export(tmp_path / "exports", "alpha", "onnx", spec=replace(SPEC, row_independent=row_independent))
    held = Held()
    stack = await FakeStack(held).start()
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    settings = Settings(
        deployments=tmp_path / "deployments.toml",
        exports=tmp_path / "exports",
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=False,
        addresses=dict.fromkeys(("onnx", "torchserve", "tfserving"), stack.address),
        files=service_files({}, tmp_path),
        front=front,
    )
    gateway = await create_gateway(settings)
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield Bench(gateway, held, channel)
    await gateway.close()
    await stack.stop()


def rows_of(answer: Answer) -> list[float]:
    data = answer.outputs[0].data
    return list(struct.unpack(f"<{len(data) // 4}f", data))


async def test_calls_that_wait_leave_as_one_if_their_rows_are_independent(
    bench: Bench, *, row_independent: bool
) -> None:
    tasks = await bench.ask_all()
    bench.held.let_go()
    answers = await asyncio.gather(*tasks)
    assert [rows_of(answer) for answer in answers] == [[100.0], *([float(n)] * n for n in range(1, 6))]
    assert sorted(bench.held.sent) == ([1, 15] if row_independent else [1, 1, 2, 3, 4, 5])
    assert all(answer.served.backend_us > 0 for answer in answers)
    waited_us = [answer.served.queue_us for answer in answers]
    assert (waited_us[0], min(waited_us[1:]) > 0) == (0, True)
    assert all(answer.served.gateway_us >= answer.served.queue_us for answer in answers)
    metrics = await asyncio.to_thread(scrape, bench.gateway.metrics_port)
    assert f'servepath_batch_rows_count{{model="alpha",stack="onnx"}} {len(bench.held.sent)}.0' in metrics
    assert 'servepath_batch_rows_sum{model="alpha",stack="onnx"} 16.0' in metrics
    assert 'servepath_rows_total{model="alpha",stack="onnx"} 16.0' in metrics
    assert 'servepath_requests_total{code="OK",model="alpha",stack="onnx"} 6.0' in metrics


async def test_a_request_that_the_server_refuses_fails_alone(bench: Bench) -> None:
    bench.held.poison = 3.0
    tasks = await bench.ask_all()
    bench.held.let_go()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[3], aio.AioRpcError)
    assert outcomes[3].code() is StatusCode.INVALID_ARGUMENT
    assert [rows_of(outcomes[n]) for n in (1, 2, 4, 5)] == [[float(n)] * n for n in (1, 2, 4, 5)]  # type: ignore[arg-type]


async def test_calls_whose_answers_are_too_large_together_are_answered_in_smaller_batches(tmp_path: Path) -> None:
    spec = replace(SPEC, outputs=(TensorSpec("y", "FP32", ("batch", WIDTH)),))
    make_export(tmp_path / "exports", "alpha", "onnx", spec=spec)
    wide = Wide()
    stack = await FakeStack(wide).start()
    text = f"{DEPLOYMENTS}max_message_bytes = {MAX_BYTES}\n"
    try:
        async with (
            gateways.running(gateways.settings(tmp_path, text, {"onnx": stack.address})) as (gateway, _),
            aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
        ):
            bench = Bench(gateway, wide, channel)
            tasks = [bench.ask(100)]
            await until(lambda: wide.first is not None)
            tasks += [bench.ask(n) for n in range(1, 21)]
            await until(lambda: gateway.data_plane.in_flight == 21)
            wide.let_go()
            answers = await asyncio.gather(*tasks)
            assert [rows_of(answer) for answer in answers] == [[float(n)] * WIDTH for n in (100, *range(1, 21))]
            assert sorted(wide.sent) == [1, 5, 5, 5, 5, 10, 10, 20]
            for _ in range(FAILURES):
                with pytest.raises(aio.AioRpcError) as refused:
                    await bench.ask(7, rows=10)
                assert code_and_reason(refused.value) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
                assert refused.value.details() == "the answer is larger than this gateway takes from a server"
            assert not gateway.reloader.routes.paths["alpha", "onnx"].replicas.members[0].replica.health.failures
    finally:
        await stack.stop()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG_S) as reply:
        text: str = reply.read().decode()
        return text
