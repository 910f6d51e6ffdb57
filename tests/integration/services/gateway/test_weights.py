"""Weights over real gRPC: a model's calls are split between two servers, and a caller with a key stays on one."""

import asyncio
import struct
import urllib.request
from collections import Counter
from pathlib import Path

from grpc import aio

from servepath.protocols import servepath
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2
from services.gateway.route_updater import CALLER_KEY
from services.gateway.router import share_of
from services.gateway.server import create_gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import settings
from tests.limits import LONG_S

DEPLOYMENTS = """
[servers.other]
protocol = "oip"
[models.alpha]
default = "onnx"
[models.alpha.weights]
onnx = 70
other = 30
[models.alpha.stacks.onnx]
[models.alpha.stacks.other]
"""
PAYLOAD = servepath.encode_request(
    Request("alpha", 0, (Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2)),)), "alpha", 0
)
CALLS = 300


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG_S) as reply:
        return reply.read().decode()


async def test_a_split_of_70_to_30_and_callers_that_stay(tmp_path: Path, front: str) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    stacks = [await FakeStack(FakeBackend()).start() for _ in range(2)]
    addresses = dict(zip(("onnx", "other"), (stack.address for stack in stacks), strict=True))
    gateway = await create_gateway(settings(tmp_path, DEPLOYMENTS, addresses, front))
    try:
        async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            predict = channel.unary_unary(servepath.METHOD)

            async def stack_of(key: str) -> str:
                metadata = ((CALLER_KEY, key),) if key else ()
                return servepath.decode_answer(await predict(PAYLOAD, metadata=metadata, timeout=LONG_S)).served.stack

            keys = [f"account-{number}" for number in range(CALLS)]
            first, second = [await stack_of(key) for key in keys], [await stack_of(key) for key in keys]
            assert first == second == ["onnx" if share_of(key) < 0.7 else "other" for key in keys]
            drawn = Counter([await stack_of("") for _ in range(CALLS)])
            assert drawn.keys() == {"onnx", "other"}
            listed = await channel.unary_unary(servepath.LIST_PATHS)(b"", timeout=LONG_S)
            paths = gateway_pb2.ListPathsResponse.FromString(listed).paths
            assert {path.stack: path.weight for path in paths} == {"onnx": 70, "other": 30}
        text = await asyncio.to_thread(metrics, gateway.metrics_port)
        answered = [line for line in text.splitlines() if line.startswith("servepath_requests_total{") and "OK" in line]
        (line,) = [line for line in answered if 'stack="other"' in line]
        assert float(line.split()[-1]) == first.count("other") + second.count("other") + drawn["other"]
    finally:
        await gateway.close()
        for stack in stacks:
            await stack.stop()
