"""The gateway in front of a server that is not ours: a scripted one of the Open Inference Protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols import oip, paths, servepath
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.paths import PathInfo
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Answer, Request, Tensor
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.gateway.config import Settings
from services.gateway.server import create_gateway
from tests.exports import make_export
from tests.limits import LONG_S

DEPLOYMENTS = """
[gateway]
probe_interval_s = 0.05
[servers.theirs]
protocol = "oip"
[models.alpha]
default = "theirs"
[models.alpha.stacks.theirs]
name = "alpha-v2"
inputs = { x = "input-0" }
outputs = { y = "output-0" }
"""
SPEC = Spec(
    inputs=(TensorSpec("x", "FP32", ("batch", 2)),),
    outputs=(TensorSpec("y", "FP32", ("batch", 1)), TensorSpec("h", "FP16", ("batch",))),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
X = Tensor("x", "FP32", (1, 2), bytes(8))
Y, H = Tensor("y", "FP32", (1, 1), b"\0\0\0\x3f"), Tensor("h", "FP16", (1,), b"\x00\x3c")


def mixed(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Answer a typed output, a raw one and one that nobody wants, and name no version."""
    message = pb.ModelInferResponse(model_name=request.model_name)
    message.outputs.add(name="output-0", datatype="FP32", shape=(1, 1)).contents.fp32_contents.append(0.5)
    message.outputs.add(name="unwanted", datatype="INT32", shape=(1,)).contents.int_contents.append(1)
    message.outputs.add(name="h", datatype="FP16", shape=(1,))
    message.raw_output_contents.append(H.data)
    return message


@dataclass
class Theirs:
    """A server that answers as `answer` says; engine: its name and version, None where it does not answer that."""

    answer: Callable[[pb.ModelInferRequest], pb.ModelInferResponse] = mixed
    engine: tuple[str, str] | None = ("their server", "1.2")
    requests: list[pb.ModelInferRequest] = field(default_factory=list)
    asked_who: int = 0

    async def start(self) -> int:
        self.server = aio.server()
        handlers: dict[str, Any] = {"ModelInfer": self._infer} | ({"ServerMetadata": self._who} if self.engine else {})
        methods = {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.SERVICE, methods),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port

    async def _infer(self, payload: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        request = pb.ModelInferRequest.FromString(payload)
        self.requests.append(request)
        if request.model_name != "alpha-v2":
            await context.abort(StatusCode.NOT_FOUND, f"/secret/{request.model_name}")
        return self.answer(request).SerializeToString()

    async def _who(self, _: bytes, __: aio.ServicerContext[Any, Any]) -> bytes:
        self.asked_who += 1
        name, version = self.engine or ("", "")
        return pb.ServerMetadataResponse(name=name, version=version).SerializeToString()


@dataclass
class Bench:
    """The gateway's channel, and the server behind it."""

    theirs: Theirs
    channel: aio.Channel

    async def predict(self, request: Request) -> Answer:
        payload = servepath.encode_request(request, request.model, request.version)
        return servepath.decode_answer(await self.channel.unary_unary(servepath.METHOD)(payload, timeout=LONG_S))

    async def refusal(self, request: Request) -> tuple[StatusCode, str]:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.predict(request)
        return caught.value.code(), caught.value.details() or ""

    async def path(self) -> PathInfo:
        (path,) = paths.decode_answer(await self.channel.unary_unary(servepath.LIST_PATHS)(b""))
        return path

    async def until(self, condition: Callable[[PathInfo], bool]) -> None:
        async with asyncio.timeout(LONG_S):
            while not condition(await self.path()):  # noqa: ASYNC110 - what is waited for knows no events
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serve(folder: Path, theirs: Theirs, deployments: str = DEPLOYMENTS) -> AsyncIterator[Bench]:
    make_export(folder / "exports", "alpha", "reference", spec=SPEC)
    file = folder / "deployments.toml"
    file.write_text(deployments)
    settings = Settings(
        deployments=file,
        exports=folder / "exports",
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=False,
        addresses={"theirs": f"127.0.0.1:{await theirs.start()}"},
        files=service_files({}, folder),
    )
    try:
        gateway = await create_gateway(settings)
        async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            yield Bench(theirs, channel)
        await gateway.drain()
        await gateway.close()
    finally:
        await theirs.server.stop(0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with serve(tmp_path, Theirs()) as bench:
        await bench.until(lambda path: path.ready)
        yield bench


async def test_it_is_asked_in_its_own_names_and_answers_in_ours(bench: Bench) -> None:
    answer = await bench.predict(Request("alpha", 0, (X,)))
    assert answer.outputs == (Y, H)
    asked = bench.theirs.requests[-1]
    assert (asked.model_name, asked.model_version, [tensor.name for tensor in asked.inputs]) == (
        "alpha-v2",
        "",
        ["input-0"],
    )


async def test_an_output_that_was_not_asked_for_is_left_out_though_it_comes(bench: Bench) -> None:
    assert (await bench.predict(Request("alpha", 0, (X,), ("h",)))).outputs == (H,)
    assert [output.name for output in bench.theirs.requests[-1].outputs] == ["h"]


async def test_its_origin_is_what_it_says_of_itself_and_our_artifact_is_not_claimed_for_it(bench: Bench) -> None:
    served = (await bench.predict(Request("alpha@theirs", 0, (X,)))).served
    assert (served.model, served.stack, served.engine, served.engine_version) == (
        "alpha",
        "theirs",
        "their server",
        "1.2",
    )
    assert (served.version, served.sha256, served.sha256_observed) == (0, "", False)
    path = await bench.path()
    assert (path.engine, path.engine_version, path.version, path.sha256) == ("their server", "1.2", 0, "")
    payload = oip.encode_request(Request("", 0, (X,)), "alpha", 0)
    reply = pb.ModelInferResponse.FromString(await bench.channel.unary_unary(oip.METHOD)(payload))
    assert (reply.model_version, reply.parameters["sha256_source"].string_param) == ("", "unknown")


async def test_a_request_of_no_rows_gets_no_claim_either(bench: Bench) -> None:
    answer = await bench.predict(Request("alpha", 0, (Tensor("x", "FP32", (0, 2), b""),)))
    assert [tensor.shape for tensor in answer.outputs] == [(0, 1), (0,)]
    assert (answer.served.version, answer.served.sha256) == (0, "")


async def test_a_version_of_ours_is_refused_before_it_is_asked(bench: Bench) -> None:
    seen = [request.model_version for request in bench.theirs.requests]
    found = await bench.refusal(Request("alpha", 1, (X,)))
    said = "alpha has no version 1: theirs is an external server, whose versions are its own"
    assert found == (StatusCode.NOT_FOUND, said)
    assert set(seen) == {request.model_version for request in bench.theirs.requests} == {""}


async def test_another_server_in_its_place_is_named_with_the_next_probe(bench: Bench) -> None:
    bench.theirs.engine = ("their server", "2.0")
    await bench.until(lambda path: path.engine_version == "2.0")
    assert bench.theirs.asked_who <= len(bench.theirs.requests) + 1  # once with each probe, never with a call


@pytest.mark.parametrize("missing", ["output-0", "h"])
async def test_a_reply_without_an_output_of_the_model_is_a_bad_one(bench: Bench, missing: str) -> None:
    def lacking(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        message = mixed(request)
        kept = [output for output in message.outputs if output.name != missing]
        del message.outputs[:]
        message.outputs.extend(kept)
        if missing == "h":
            del message.raw_output_contents[:]
        return message

    bench.theirs.answer = lacking
    code, text = await bench.refusal(Request("alpha", 0, (X,)))
    assert (code, text) == (StatusCode.INTERNAL, "the model server's reply lacks an output, or has an extra one")


async def test_a_server_that_does_not_say_who_it_is_answers_all_the_same(tmp_path: Path) -> None:
    async with serve(tmp_path, Theirs(engine=None)) as bench:
        await bench.until(lambda path: path.ready)
        served = (await bench.predict(Request("alpha", 0, (X,)))).served
        assert (served.engine, served.engine_version) == ("unknown", "version not reported")


async def test_a_model_that_it_lacks_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    async with serve(tmp_path, Theirs(), DEPLOYMENTS.replace("alpha-v2", "alpha-v3")) as bench:
        code, text = await bench.refusal(Request("alpha", 0, (X,)))
        assert (code, text.endswith("lacks a model or method"), "secret" in text) == (StatusCode.INTERNAL, True, False)
        assert not (await bench.path()).ready


async def test_tensors_that_the_model_lacks_are_named_at_the_start(tmp_path: Path) -> None:
    said = r"deployments\.toml: \[models\.alpha\.stacks\.theirs\] inputs: the model has no 'z'; it has x"
    with pytest.raises(DeploymentsError, match=said):
        async with serve(tmp_path, Theirs(), DEPLOYMENTS.replace("{ x =", "{ z =")):
            pass
