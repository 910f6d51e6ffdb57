"""Compare over real gRPC: one request on every path of a model, in front of servers that answer or err on demand."""

import asyncio
import json
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from servepath.client import AsyncClient, Comparison, PredictError, Prediction, Verdict
from servepath.protocols import comparison, servepath
from servepath.protocols.errors import BackendUnavailable
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2
from services.dataplane.backend import Call, Outcome
from services.gateway.compare import MAX_AT_ONCE
from services.gateway.config import Settings
from services.gateway.server import Gateway, create_gateway
from services.litert_svc.config import SERVICE as LITERT
from services.litert_svc.litert import load as load_tflite
from services.oip_server.config import Settings as ServerSettings
from services.oip_server.server import create_server
from services.onnx_svc.config import SERVICE as ONNX
from services.onnx_svc.config import Settings as OnnxSettings
from services.onnx_svc.ort import OrtEngine
from tests import gateways, tiny_onnx, tiny_tflite
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.integration.services.gateway.test_text import SPEC as TEXTS
from tests.integration.services.gateway.test_text import classify, write_text_form
from tests.integration.test_gateway import reason_of, until
from tests.limits import LONG_S

ROOT = Path(__file__).parents[4]
STACKS = ("onnx", "litert", "other")
DEPLOYMENTS = """
[servers.other]
protocol = "oip"
[gateway]
probe_interval_s = 0.05
[models.{model}]
default = "onnx"
[models.{model}.stacks.onnx]
max_in_flight = 64
[models.{model}.stacks.litert]
[models.{model}.stacks.other]
max_in_flight = 64
max_merge_rows = 1
"""
EQUAL, DIFFERENT, FAILED = Verdict.EQUAL, Verdict.DIFFERENT, Verdict.FAILED
# No probe asks this.
HELD = [[8.0, 8.0]]


@dataclass
class Bench:
    """A gateway of one model on three stacks, the stacks, and two clients of it."""

    gateway: Gateway
    stacks: dict[str, FakeStack]
    channel: aio.Channel
    client: AsyncClient
    exports: Path

    def backend(self, stack: str) -> FakeBackend:
        return self.stacks[stack].backend

    async def compare(
        self, model: str = "alpha", rows: object = ((1, 2),), version: int = 0, timeout_s: float = LONG_S
    ) -> Comparison[Prediction]:
        return await self.client.compare(model, rows, version=version, timeout_s=timeout_s)

    async def refusal(self, method: str, payload: bytes) -> tuple[StatusCode, str, str | None]:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.channel.unary_unary(method)(payload, timeout=LONG_S)
        return caught.value.code(), reason_of(caught.value), caught.value.details()


def settings(tmp_path: Path, front: str, addresses: dict[str, str], model: str) -> Settings:
    return gateways.settings(tmp_path, DEPLOYMENTS.format(model=model), addresses, front)


@asynccontextmanager
async def bench_of(tmp_path: Path, front: str, model: str, backends: dict[str, FakeBackend]) -> AsyncIterator[Bench]:
    stacks = {name: await FakeStack(backend).start() for name, backend in backends.items()}
    addresses = {name: stack.address for name, stack in stacks.items()}
    gateway = await create_gateway(settings(tmp_path, front, addresses, model))
    address = f"127.0.0.1:{gateway.port}"
    async with aio.insecure_channel(address) as channel, AsyncClient(address) as client:
        await until(gateway.backend.ready)
        yield Bench(gateway, stacks, channel, client, tmp_path / "exports")
    await gateway.drain()
    await gateway.close()
    for stack in stacks.values():
        await stack.stop()


def new_backends() -> dict[str, FakeBackend]:
    backends = {stack: FakeBackend() for stack in STACKS}
    for stack, backend in backends.items():
        backend.served = backend.served._replace(stack=stack)
    return backends


@pytest.fixture
async def bench(tmp_path: Path, front: str) -> AsyncIterator[Bench]:
    for artifact_format in ("onnx", "tflite"):
        make_export(tmp_path / "exports", "alpha", artifact_format)
    async with bench_of(tmp_path, front, "alpha", new_backends()) as made:
        yield made


def verdicts(found: Comparison[Prediction]) -> dict[str, Verdict]:
    return {path.stack: path.verdict for path in found.paths}


async def test_every_path_answers_and_they_are_equal(bench: Bench) -> None:
    found = await bench.compare(rows=[[1, 2], [3, 4]])

    assert (found.verdict, found.baseline) == (EQUAL, "onnx")
    assert verdicts(found) == dict.fromkeys(STACKS, EQUAL)
    assert [path.answer and path.answer.output.tolist() for path in found.paths] == [[[5], [11]]] * 3
    assert [(path.difference, path.ulp, path.detail, path.error) for path in found.paths] == [(0.0, 0, "", None)] * 3
    served = {path.stack: path.answer.served for path in found.paths if path.answer}
    assert {stack: (each.stack, each.engine) for stack, each in served.items()} == {s: (s, "fake") for s in STACKS}
    assert all(each.backend_us > 0 and each.gateway_us > 0 for each in served.values())
    assert len(served["onnx"].sha256) == 64 != len(served["other"].sha256)


async def test_a_path_that_answers_something_else_is_different(bench: Bench) -> None:
    bench.backend("litert").bias = 0.5
    found = await bench.compare()

    assert (found.verdict, verdicts(found)) == (DIFFERENT, {"onnx": EQUAL, "litert": DIFFERENT, "other": EQUAL})
    assert (found.paths[1].difference, found.paths[1].ulp) == (0.5, 2**20)
    said = "output 'y' is [5.5], onnx says [5]: 0.5 apart, beyond rtol 2e-05, atol 2e-05"
    assert found.paths[1].detail == said


async def test_the_named_path_is_the_one_compared_with(bench: Bench) -> None:
    bench.backend("litert").bias = 0.5
    found = await bench.compare("alpha@litert")

    assert [path.stack for path in found.paths] == ["litert", "onnx", "other"]
    assert (found.baseline, verdicts(found)) == ("litert", {"litert": EQUAL, "onnx": DIFFERENT, "other": DIFFERENT})


async def test_a_path_that_is_down_fails_alone_and_another_takes_its_place(bench: Bench) -> None:
    bench.backend("onnx").behave = lambda _: BackendUnavailable("gone")
    await bench.stacks["other"].stop()
    found = await bench.compare()

    assert (found.verdict, found.baseline) == (FAILED, "litert")
    assert verdicts(found) == {"onnx": FAILED, "litert": EQUAL, "other": FAILED}
    assert found.paths[1].answer is not None
    for path in (found.paths[0], found.paths[2]):
        assert (path.answer, path.difference, path.ulp) == (None, None, None)
        assert path.error is not None
        assert (path.error.code, path.error.code_name, path.error.reason) == (14, "UNAVAILABLE", "BACKEND_DOWN")
    assert found.paths[0].error == found.paths[2].error


async def test_a_path_without_the_version_fails_alone(bench: Bench) -> None:
    make_export(bench.exports, "alpha", "onnx", 2)
    bench.backend("onnx").served = bench.backend("onnx").served._replace(version=2)

    async def known() -> bool:
        try:
            return (await bench.compare(version=2)).baseline == "onnx"
        except PredictError:  # the folder is listed once a second
            return False

    await until(known)
    found = await bench.compare(version=2)
    assert (found.verdict, verdicts(found)) == (FAILED, {"onnx": EQUAL, "litert": FAILED, "other": FAILED})
    assert found.paths[1].error is not None
    assert (found.paths[1].error.code_name, found.paths[1].error.text) == (
        "NOT_FOUND",
        "alpha@litert has no version 2",
    )


@pytest.mark.parametrize(
    "request_",
    [
        Request("nobody", 0, (Tensor("x", "FP32", (1, 2), bytes(8)),)),
        Request("alpha@nobody", 0, (Tensor("x", "FP32", (1, 2), bytes(8)),)),
        Request("not a name", 0, ()),
        Request("alpha", -1, ()),
        Request("alpha", 0, (Tensor("x", "FP32", (1, 3), bytes(12)),)),
        Request("alpha", 0, (Tensor("z", "FP32", (1, 2), bytes(8)),)),
        Request("alpha", 0, (Tensor("x", "FP32", (1, 2), bytes(7)),)),
    ],
)
async def test_what_predict_refuses_on_every_path_is_refused_as_it_does(bench: Bench, request_: Request) -> None:
    predict = servepath.encode_request(request_, request_.model, request_.version)
    refusal = await bench.refusal(servepath.METHOD, predict)

    assert await bench.refusal(servepath.COMPARE, comparison.encode_request(request_)) == refusal


async def test_an_unknown_version_is_refused_where_no_path_has_it(bench: Bench) -> None:
    request = Request("alpha", 9, (Tensor("x", "FP32", (1, 2), bytes(8)),))
    code, reason, text = await bench.refusal(servepath.COMPARE, comparison.encode_request(request))

    assert (code, reason, text) == (StatusCode.NOT_FOUND, "MODEL_UNKNOWN", "alpha@onnx has no version 9")


async def test_typed_elements_are_answered_typed(bench: Bench) -> None:
    tensor = gateway_pb2.Tensor(name="x", dtype="FP32", shape=[1, 2], fp32=[1, 2])
    message = gateway_pb2.CompareRequest(model="alpha", inputs=[tensor])
    reply = await bench.channel.unary_unary(servepath.COMPARE)(message.SerializeToString(), timeout=LONG_S)

    paths = gateway_pb2.CompareResponse.FromString(reply).paths
    assert [(list(path.outputs[0].fp32), path.outputs[0].raw) for path in paths] == [([5], b"")] * 3


def hold(backend: FakeBackend) -> None:
    """Leave the calls unanswered that no probe makes."""

    def behave(call: Call) -> Outcome | None:
        return None if call.request.inputs[0].data == struct.pack("<2f", *HELD[0]) else backend.answer(call)

    backend.behave = behave


async def test_a_path_that_is_too_slow_fails_within_the_callers_deadline(bench: Bench) -> None:
    hold(bench.backend("other"))
    found: Comparison[Prediction] | None = None
    async with asyncio.timeout(LONG_S):
        while found is None:
            try:
                found = await bench.compare(rows=HELD, timeout_s=4)
            except PredictError as error:  # the tenth of the time that is kept for comparing may be too short
                assert error.code is StatusCode.DEADLINE_EXCEEDED  # noqa: PT017 - any other is a fault
    assert verdicts(found) == {"onnx": EQUAL, "litert": EQUAL, "other": FAILED}
    assert found.paths[2].error is not None
    assert (found.paths[2].error.code_name, found.paths[2].error.reason) == ("DEADLINE_EXCEEDED", "EXPIRED_IN_BACKEND")


async def test_comparisons_are_bounded_and_those_of_callers_who_left_end(bench: Bench) -> None:
    backend = bench.backend("other")
    hold(backend)

    def held() -> list[Call]:
        return [call for call in backend.calls if call.outcome is None]

    await bench.compare()  # so that no caller has to ask what the model takes
    asking = [asyncio.create_task(bench.compare(rows=HELD, timeout_s=60)) for _ in range(MAX_AT_ONCE)]
    await until(lambda: len(held()) == MAX_AT_ONCE)
    with pytest.raises(PredictError, match="8 comparisons are under way; try again later") as refused:
        await bench.compare()
    assert (refused.value.code, refused.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    for task in asking:
        task.cancel()
    await until(lambda: bench.gateway.data_plane.in_flight == 0)
    assert (await bench.compare()).verdict == EQUAL


async def test_texts_are_compared_with_their_labels(tmp_path: Path, front: str) -> None:
    for artifact_format in ("onnx", "tflite"):
        make_export(tmp_path / "exports", "policy", artifact_format, spec=TEXTS)
    write_text_form(tmp_path / "exports", 1)

    backends = new_backends()
    for backend in backends.values():
        backend.behave = partial(told, backend)
    async with bench_of(tmp_path, front, "policy", backends) as bench:
        backends["litert"].behave = partial(swapped, backends["litert"])
        found = await bench.compare("policy", ["pay my"])
    assert verdicts(found) == {"onnx": EQUAL, "litert": DIFFERENT, "other": EQUAL}
    labels = [path.answer and path.answer.outputs["label"].tolist() for path in found.paths]
    assert labels == [[b"money"], [b"holidays"], [b"money"]]


def told(backend: FakeBackend, call: Call) -> Answer:
    return classify(call)._replace(served=backend.served)


def swapped(backend: FakeBackend, call: Call) -> Answer:
    answer = told(backend, call)
    return answer._replace(outputs=tuple(tensor._replace(data=tensor.data[::-1]) for tensor in answer.outputs))


async def ask_all(gateway: Gateway, *words: str) -> tuple[int, str]:
    """Return exit code and output of `servepath ask`, run beside this loop."""
    command = ("-m", "servepath", "ask", *words, "--addr", f"127.0.0.1:{gateway.port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(LONG_S):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_command_shows_every_path_and_fails_for_one(bench: Bench) -> None:
    code, output = await ask_all(bench.gateway, "alpha", "--all", "1 2")
    assert (code, output.splitlines()[-1]) == (0, "EQUAL: 3 paths, compared with alpha@onnx"), output
    assert [line.split()[1] for line in output.splitlines() if "alpha@" in line][:3] == [
        "alpha@onnx*",
        "alpha@litert",
        "alpha@other",
    ]
    bench.backend("other").bias = 1
    code, output = await ask_all(bench.gateway, "alpha@litert", "--all", "--json", "1 2")
    found = json.loads(output)
    assert (code, found["verdict"], found["baseline"]) == (1, "DIFFERENT", "litert")
    last = found["paths"][-1]
    assert (last["stack"], last["difference"], last["outputs"], last["served"]["engine"]) == (
        *("other", 1.0),
        *({"y": [[6.0]]}, "fake"),
    )
    code, output = await ask_all(bench.gateway, "alpha", "1 2")
    assert (code, output.splitlines()[0]) == (0, "y = [[5.0]]")


async def test_onnx_runtime_and_litert_answer_equally(tmp_path: Path, front: str) -> None:
    exports = tmp_path / "exports"
    tiny_onnx.make_export(exports, "alpha", content=tiny_onnx.linear(1))
    tiny_tflite.make_export(exports, "alpha", content=tiny_tflite.linear(1))
    servers = {
        "onnx": await create_server(ONNX, OnnxSettings(exports, 0, 0, front=front), partial(OrtEngine, device="cpu")),
        "litert": await create_server(LITERT, ServerSettings(exports, 0, 0, front=front), load_tflite),
    }
    addresses = {stack: f"127.0.0.1:{server.port}" for stack, server in servers.items()}
    gateway = await create_gateway(settings(tmp_path, front, addresses | {"other": addresses["onnx"]}, "alpha"))
    try:
        await until(gateway.backend.ready)
        async with AsyncClient(f"127.0.0.1:{gateway.port}") as client:
            found = await client.compare("alpha", [[0.1, -3.3], [1e3, 1e-3]], timeout_s=LONG_S)
    finally:
        await gateway.close()
        for server in servers.values():
            await server.close()
    assert (found.verdict, verdicts(found)) == (EQUAL, dict.fromkeys(STACKS, EQUAL))
    assert [path.answer and path.answer.served.engine for path in found.paths[:2]] == ["onnxruntime", "litert"]
    assert [path.answer and path.answer.served.sha256_observed for path in found.paths[:2]] == [True, True]
