"""The gateway before a stand-in for TensorFlow Serving that says, in its words, what the real one was seen to say."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio

from servepath.protocols import oip, servepath, tfserving
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip import oip_pb2
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.gateway.config import Settings
from services.gateway.server import create_gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import running, settings
from tests.limits import LONG_S
from tests.tf_server import tensor

DEPLOYMENTS = """
[gateway]
probe_interval_s = 0.05
[models.alpha]
default = "tfserving"
[models.alpha.stacks.tfserving]
"""
ROW = Request("alpha", 0, (Tensor("x", "FP32", (1, 2), bytes(8)),))


class StandIn:
    """Answers every Predict with y = 0, or ends it with `says`; on a Unix socket, and without naming its version."""

    def __init__(self, path: Path) -> None:
        self.says: tuple[StatusCode, str] | None = None
        self._server = aio.server()
        self._server.add_insecure_port(f"unix:{path}")
        handlers = {"Predict": grpc.unary_unary_rpc_method_handler(self._predict)}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(tfserving.SERVICE, handlers)])

    async def _predict(self, _: bytes, context: aio.ServicerContext) -> bytes:
        if self.says:
            await context.abort(*self.says)
        reply = pb.PredictResponse()
        reply.model_spec.name, reply.model_spec.version.value = "alpha", 1
        reply.outputs["y"].CopyFrom(tensor(1, (1, 1), float_val=[0.0]))
        return reply.SerializeToString()

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[StandIn]:
    server = StandIn(tmp_path / "grpc.sock")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(tmp_path: Path, front: str, server: StandIn) -> AsyncIterator[aio.Channel]:  # noqa: ARG001 - runs first
    make_export(tmp_path / "exports", "alpha", "saved_model")
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    (tmp_path / "tf_svc").mkdir()
    (tmp_path / "tf_svc" / "version").write_text("2.20.0\n")
    used = Settings(
        deployments=tmp_path / "deployments.toml",
        exports=tmp_path / "exports",
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=False,
        addresses={"tfserving": f"unix:{tmp_path}/grpc.sock"},
        files=service_files({}, tmp_path),
        front=front,
    )
    gateway = await create_gateway(used)
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield channel
    await gateway.drain()
    await gateway.close()


async def predict(channel: aio.Channel) -> bytes:
    call = channel.unary_unary(servepath.METHOD)
    return await call(servepath.encode_request(ROW, "alpha", 0), timeout=LONG_S, wait_for_ready=True)


async def test_a_server_on_a_unix_socket_is_named_with_the_version_in_the_file(channel: aio.Channel) -> None:
    answer = servepath.decode_answer(await predict(channel))
    assert (answer.served.engine, answer.served.engine_version) == ("tensorflow_model_server", "2.20.0")


@pytest.mark.parametrize(
    ("code", "text", "becomes"),
    [
        # Seen of 2.20.0: models without variables, refused versions, bytes that are no request.
        ("FAILED_PRECONDITION", "Could not find variable y/bias", ("INTERNAL", "BACKEND_BAD_REPLY")),
        ("DATA_LOSS", "Checksum does not match", ("INTERNAL", "BACKEND_BAD_REPLY")),
        ("NOT_FOUND", "Servable not found for request: Latest(alpha)", ("UNAVAILABLE", "MODEL_LOADING")),
        ("INTERNAL", "failed to parse the request", ("INTERNAL", "BACKEND_BAD_REPLY")),
        ("INVALID_ARGUMENT", "input size does not match signature: 2!=1", ("INVALID_ARGUMENT", "BAD_INPUT.INPUTS")),
        (
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but bool is provided",
            ("INVALID_ARGUMENT", "BAD_INPUT.DTYPE"),
        ),
        ("INVALID_ARGUMENT", "Matrix size-incompatible: [1,3], [2,1]", ("INVALID_ARGUMENT", "BAD_INPUT.CONTENT")),
        ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", ("RESOURCE_EXHAUSTED", "OVERLOADED")),
        ("UNAVAILABLE", "Model labels does not init yet.", ("UNAVAILABLE", "MODEL_LOADING")),
        ("UNIMPLEMENTED", "unknown service", ("INTERNAL", "BACKEND_MISCONFIGURED")),
    ],
)
async def test_what_the_server_says_becomes_one_of_the_gateways_errors_without_its_words(
    channel: aio.Channel, server: StandIn, code: str, text: str, becomes: tuple[str, str]
) -> None:
    server.says = (StatusCode[code], text)
    with pytest.raises(aio.AioRpcError) as caught:
        await predict(channel)
    status = Status.FromString(dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"])
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (caught.value.code().name, info.reason) == becomes
    assert text not in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            StatusCode.FAILED_PRECONDITION,
            "Tensors with name 'x:0' from different tasks have different shapes and padding is turned off",
        ),
        (StatusCode.INTERNAL, "Tensor concat operation failed: Cannot concatenate float and bool"),
    ],
)
async def test_what_another_caller_did_to_a_batch_is_retryable_and_blames_nobody(
    channel: aio.Channel, server: StandIn, code: StatusCode, text: str
) -> None:
    server.says = (code, text)
    with pytest.raises(aio.AioRpcError) as caught:
        await predict(channel)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    status = Status.FromString(dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"])
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert info.reason == "BATCH_SPOILED"
    assert retry.retry_delay.ToMilliseconds() > 0


async def is_ready(channel: aio.Channel, version: str, name: str = "alpha") -> bool | None:
    """Return whether a version is ready, None where the gateway knows of none."""
    asked = oip_pb2.ModelReadyRequest(name=name, version=version).SerializeToString()
    try:
        reply = await channel.unary_unary(f"/{oip.SERVICE}/ModelReady")(asked, timeout=LONG_S)
    except aio.AioRpcError as error:
        if error.code() is StatusCode.NOT_FOUND:
            return None
        raise
    return oip_pb2.ModelReadyResponse.FromString(reply).ready


async def test_a_version_that_a_server_of_one_at_a_time_does_not_serve_is_not_ready(
    channel: aio.Channel, tmp_path: Path
) -> None:
    make_export(tmp_path / "exports", "alpha", "saved_model", 2)
    async with asyncio.timeout(LONG_S):
        while not await is_ready(channel, "1") or await is_ready(channel, "2") is None:  # noqa: ASYNC110 - a listing
            await asyncio.sleep(0.05)
    assert [await is_ready(channel, version) for version in ("", "1", "2")] == [True, True, False]


@pytest.mark.usefixtures("server")
async def test_a_version_that_a_fallback_has_is_ready_under_the_models_name_alone(tmp_path: Path) -> None:
    for version in (2, 1):  # so that 1 is the current one
        for artifact_format in ("saved_model", "onnx"):
            make_export(tmp_path / "exports", "alpha", artifact_format, version)
    stack = await FakeStack(FakeBackend()).start()
    text = DEPLOYMENTS.replace(
        "\n[models.alpha.stacks", "\nfallback = ['onnx']\n[models.alpha.stacks.onnx]\n[models.alpha.stacks"
    )
    used = settings(tmp_path, text, {"tfserving": f"unix:{tmp_path}/grpc.sock", "onnx": stack.address})
    names = ("alpha", "alpha@tfserving", "alpha@onnx")
    try:
        async with running(used) as (gateway, _), aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            async with asyncio.timeout(LONG_S):
                while not all([await is_ready(channel, "", name) for name in names]):  # noqa: ASYNC110 - of probes
                    await asyncio.sleep(0.05)
            assert [await is_ready(channel, "2", name) for name in names] == [True, False, True]
    finally:
        await stack.stop()
