"""The gateway before a stand-in for TensorFlow Serving that says, in its words, what the real one was seen to say."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio

from servepath.protocols import servepath, tfserving
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.gateway.config import Settings
from services.gateway.server import create_gateway
from tests.exports import make_export
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
    settings = Settings(
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
    gateway = await create_gateway(settings)
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
