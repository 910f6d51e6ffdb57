"""Versions by label and by weights over real gRPC, in front of a real onnx_svc that has two of them."""

import asyncio
import logging
import struct
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc import aio

from servepath.protocols import comparison, oip, servepath
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.types import Request, Tensor
from servepath_pb.servepath.oip import oip_pb2
from services.gateway.route_updater import CALLER_KEY
from services.gateway.router import share_of
from services.gateway.server import Gateway, create_gateway
from services.oip_server.server import OipServer, create_server
from services.onnx_svc.config import SERVICE, Settings
from services.onnx_svc.ort import OrtEngine
from tests.gateways import Caller, running, settings
from tests.limits import LONG_S
from tests.oip_client import code_and_reason, y_of
from tests.tiny_onnx import linear, make_export

DEPLOYMENTS = """
[models.alpha]
default = "onnx"
[models.alpha.version_labels]
stable = 1
canary = 2
[models.alpha.version_weights]
stable = 70
canary = 30
[models.alpha.stacks.onnx]
"""
X = Tensor("x", "FP32", (1, 2), struct.pack("<2f", 1, 2))
# y = x0 + 2 x1 + bias, and the bias is ten times the version.
ANSWERS = {1: 15.0, 2: 25.0}
CALLS = 60


def asked(model: str = "alpha", version: int = 0, label: str = "") -> Request:
    return Request(model, version, (X,), version_label=label)


def payload(request: Request) -> bytes:
    return servepath.encode_request(request, request.model, request.version)


def page_of(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LONG_S) as reply:
        return reply.read().decode()


async def onnx_svc(exports: Path) -> OipServer:
    used = Settings(exports, port=0, metrics_port=0, watch_s=LONG_S)
    return await create_server(SERVICE, used, partial(OrtEngine, device="cpu"))


@pytest.fixture
async def exports(tmp_path: Path) -> Path:
    for version in ANSWERS:
        make_export(tmp_path / "exports", "alpha", version, content=linear(10 * version))
    return tmp_path / "exports"


@pytest.fixture
async def served(exports: Path, tmp_path: Path, front: str) -> AsyncIterator[tuple[Gateway, Caller]]:
    server = await onnx_svc(exports)
    try:
        used = settings(tmp_path, DEPLOYMENTS, {"onnx": f"127.0.0.1:{server.port}"}, front)
        async with running(used) as found:
            yield found
    finally:
        await server.close()


async def test_a_label_is_answered_by_its_version_whatever_the_protocol(served: tuple[Gateway, Caller]) -> None:
    gateway, caller = served
    for label, version in {"stable": 1, "canary": 2}.items():
        for name in ("alpha", "alpha@onnx"):
            answer = await caller.predict(payload(asked(name, label=label)))
            assert (y_of(answer), answer.served.version) == (ANSWERS[version], version)
            async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
                sent = oip.encode_request(asked(name, label=label), name, 0)
                reply = oip.decode_answer(await channel.unary_unary(oip.METHOD)(sent, timeout=LONG_S), name, "onnx")
                assert (y_of(reply), reply.served.version) == (ANSWERS[version], version)
    assert (await caller.predict(payload(asked("alpha@onnx")))).served.version == 2


async def test_an_unknown_label_is_not_found_in_every_rpc_that_takes_one(served: tuple[Gateway, Caller]) -> None:
    gateway, caller = served
    with pytest.raises(aio.AioRpcError) as refused:
        await caller.predict(payload(asked(label="blue")))
    assert code_and_reason(refused.value) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    assert refused.value.details() == "alpha has no version label 'blue'; it has canary, stable"
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        metadata = channel.unary_unary(f"/{oip.SERVICE}/ModelMetadata")
        request = oip_pb2.ModelMetadataRequest(name="alpha", version="canary")
        assert await metadata(request.SerializeToString(), timeout=LONG_S)
        request.version = "blue"
        with pytest.raises(aio.AioRpcError) as refused:
            await metadata(request.SerializeToString(), timeout=LONG_S)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        compare = channel.unary_unary(servepath.COMPARE)
        found = comparison.decode_answer(
            await compare(comparison.encode_request(asked(label="stable")), timeout=LONG_S)
        )
        assert [path.answer and path.answer.served.version for path in found.paths] == [1]


async def test_calls_are_split_between_versions_and_a_key_stays_on_one(served: tuple[Gateway, Caller]) -> None:
    gateway, caller = served
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        predict = channel.unary_unary(servepath.METHOD)

        async def version_of(key: str) -> int:
            reply = await predict(payload(asked()), metadata=((CALLER_KEY, key),), timeout=LONG_S)
            return servepath.decode_answer(reply).served.version

        keys = [f"account-{number}" for number in range(CALLS)]
        first, second = [await version_of(key) for key in keys], [await version_of(key) for key in keys]
        assert first == second == [1 if share_of(f"version {key}") < 0.7 else 2 for key in keys]
    drawn = Counter([(await caller.predict(payload(asked()))).served.version for _ in range(CALLS)])
    assert drawn.keys() == {1, 2}


async def test_labels_and_versions_are_listed_and_on_the_status_page(served: tuple[Gateway, Caller]) -> None:
    gateway, caller = served
    (path,) = (await caller.list_paths()).paths
    assert {each.label: (each.version, each.percent) for each in path.version_labels} == {
        "stable": (1, 70),
        "canary": (2, 30),
    }
    assert (list(path.versions), path.one_version) == ([1, 2], False)
    page = await asyncio.to_thread(page_of, gateway.metrics_port)
    assert "<dt>labels</dt><dd>stable is version 1 (70 %), canary is version 2 (30 %)</dd>" in page
    assert "<dt>versions</dt><dd>1, 2</dd>" in page


async def test_a_label_that_a_reload_moves_is_answered_by_the_other_version(
    served: tuple[Gateway, Caller], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "services.gateway.reload")
    gateway, caller = served
    reloaded = asyncio.Event()
    gateway.reloader.on_reload = reloaded.set
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS.replace("stable = 1", "stable = 2", 1))
    gateway.reloader.ask()
    async with asyncio.timeout(LONG_S):
        await reloaded.wait()
    assert (await caller.predict(payload(asked(label="stable")))).served.version == 2
    assert "of alpha, stable is version 2 (70 %), canary is version 2 (30 %)" in caplog.text


async def test_a_version_that_its_server_has_not_loaded_says_what_to_do(exports: Path, tmp_path: Path) -> None:
    server = await onnx_svc(exports)
    make_export(exports, "alpha", 3, content=linear(30), current=False)
    text = DEPLOYMENTS.replace("canary = 2", "canary = 3", 1)
    try:
        async with running(settings(tmp_path, text, {"onnx": f"127.0.0.1:{server.port}"})) as (_, caller):
            with pytest.raises(aio.AioRpcError) as refused:
                await caller.predict(payload(asked(label="canary")))
    finally:
        await server.close()
    assert code_and_reason(refused.value) == (grpc.StatusCode.UNAVAILABLE, "MODEL_LOADING")
    said = "onnx has not loaded version 3: it loads all that are exported when it starts, and by RepositoryModelLoad"
    assert refused.value.details() == said


async def test_a_label_of_no_exported_version_keeps_a_gateway_from_starting(tmp_path: Path) -> None:
    make_export(tmp_path / "exports", "alpha", 2, content=linear(20))
    make_export(tmp_path / "exports", "alpha", 1, content=linear(10))
    used = settings(tmp_path, DEPLOYMENTS.replace("canary = 2", "canary = 3"), {"onnx": "127.0.0.1:1"})
    with pytest.raises(DeploymentsError, match="canary is version 3, which is not exported for onnx"):
        await create_gateway(used)


async def test_a_server_that_is_asked_by_a_label_itself_takes_it_for_a_wrong_number(exports: Path) -> None:
    server, sent = await onnx_svc(exports), oip.encode_request(asked(label="canary"), "alpha", 0)
    try:
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(aio.AioRpcError) as refused:
                await channel.unary_unary(oip.METHOD)(sent, timeout=LONG_S)
    finally:
        await server.close()
    assert code_and_reason(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT.VERSION")
    assert refused.value.details() == "model version 'canary' is not a whole number above 0"
