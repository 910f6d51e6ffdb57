"""The status page, the metrics and the failure log of a gateway with one path that answers and one that is dead."""

import asyncio
import json
import logging
import re
import struct
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from grpc import StatusCode, aio

from servepath.protocols import servepath
from servepath.protocols.stacks import service_files
from servepath.protocols.types import Request, Tensor
from services.gateway.config import Settings
from services.gateway.server import Gateway, create_gateway
from services.gateway.status import added, from_json, to_json
from services.gateway.status_page import merged_pages
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.golden_rows import make_reference
from tests.integration.services.dataplane.test_merged_metrics import cut_short
from tests.limits import LONG_S

DEPLOYMENTS = """
[gateway]
probe_interval_s = 0.05
[servers.other]
protocol = "oip"
[models.alpha]
default = "onnx"
[models.alpha.stacks.onnx]
[models.alpha.stacks.other]
"""


@dataclass
class Bench:
    """A gateway and a channel to it."""

    gateway: Gateway
    channel: aio.Channel

    async def predict(self, model: str, request_id: str = "", width: int = 2) -> None:
        x = Tensor("x", "FP32", (1, width), struct.pack(f"<{width}f", *range(width)))
        payload = servepath.encode_request(Request(model, 0, (x,), request_id=request_id), model, 0)
        await self.channel.unary_unary(servepath.METHOD)(payload, timeout=LONG_S)

    async def refusal(self, model: str, request_id: str, width: int = 2) -> StatusCode:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.predict(model, request_id, width)
        return caught.value.code()

    async def get(self, path: str, method: str = "GET") -> tuple[dict[str, str], str]:
        return await asyncio.to_thread(self._get, path, method)

    def _get(self, path: str, method: str) -> tuple[dict[str, str], str]:
        url = f"http://127.0.0.1:{self.gateway.metrics_port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=LONG_S) as reply:
            return dict(reply.headers), reply.read().decode()

    async def paths(self) -> dict[str, Any]:
        _, text = await self.get("/status.json")
        return {path["stack"]: path for path in json.loads(text)["paths"]}

    async def samples(self) -> dict[str, float]:
        _, text = await self.get("/metrics")
        lines = (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in lines}


def asked(paths: dict[str, Any]) -> bool:
    """Return whether the one path has been proven and the other asked."""
    return paths["onnx"]["difference"] is not None and paths["other"]["fault"] != "not asked yet"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    exports = tmp_path / "exports"
    make_export(exports, "alpha", "onnx")
    make_reference(exports, "alpha", bias=7)
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    stack = await FakeStack(FakeBackend(bias=7)).start()
    gateway = await create_gateway(
        Settings(
            deployments=tmp_path / "deployments.toml",
            exports=exports,
            host="127.0.0.1",
            port=0,
            metrics_port=0,
            reflection=False,
            addresses={"onnx": stack.address, "other": "127.0.0.1:1"},
            files=service_files({}, tmp_path),
        )
    )
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        bench = Bench(gateway, channel)
        async with asyncio.timeout(LONG_S):
            while not asked(await bench.paths()):  # noqa: ASYNC110 - seen over HTTP alone
                await asyncio.sleep(0.01)
        yield bench
    await gateway.close()
    await stack.stop()


async def test_the_page_shows_every_path_and_why_one_is_not_ready(bench: Bench) -> None:
    for _ in range(3):
        await bench.predict("alpha")
    assert await bench.refusal("alpha", "", width=3) is StatusCode.INVALID_ARGUMENT
    assert await bench.refusal("never-heard-of", "") is StatusCode.NOT_FOUND
    headers, page = await bench.get("/")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "ServePath gateway: 1 of 2 paths ready" in page
    assert re.search(r"<h2>alpha@onnx</h2><strong class=\"good\">ready</strong>.*<dd>fake 0</dd>", page)
    assert "<dd>4 since the start, 4 in the last " in page
    assert "<dd>INVALID_ARGUMENT 1</dd>" in page
    assert re.search(
        r"<h2>alpha@other</h2><strong class=\"bad\">not ready</strong></div><p class=\"bad\">Not ready: ", page
    )
    assert "calls that named no path or could not be read: NOT_FOUND 1</p>" in page
    assert "127.0.0.1" not in page
    paths = await bench.paths()
    assert (paths["onnx"]["calls"], sum(paths["onnx"]["overheads"]), paths["other"]["calls"]) == (4, 3, 0)


async def test_the_metrics_stay_where_they_were_and_nothing_can_be_sent_to_the_page(bench: Bench) -> None:
    headers, text = await bench.get("/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    assert 'servepath_path_ready{model="alpha",stack="onnx"} 1.0' in text
    with pytest.raises(HTTPError) as caught:
        await bench.get("/", "POST")
    with caught.value as refused:
        assert refused.code == 405


async def test_the_gateways_own_time_and_waiting_are_counted_with_every_call(bench: Bench) -> None:
    for _ in range(3):
        await bench.predict("alpha")
    await bench.refusal("alpha", "", width=3)
    samples, labels = await bench.samples(), '{model="alpha",stack="onnx"}'
    assert samples[f"servepath_gateway_overhead_seconds_count{labels}"] == 3
    assert samples[f"servepath_queue_wait_seconds_count{labels}"] == 4
    assert samples['servepath_queue_wait_seconds_bucket{le="5e-05",model="alpha",stack="onnx"}'] == 4
    both = ("servepath_gateway_overhead_seconds_sum", "servepath_backend_duration_seconds_sum")
    total = samples[f"servepath_request_duration_seconds_sum{labels}"]
    assert 0 < sum(samples[f"{name}{labels}"] for name in both) <= total


async def test_whether_a_path_merges_is_a_metric(bench: Bench) -> None:
    samples = await bench.samples()
    found = {stack: samples[f'servepath_merging{{model="alpha",stack="{stack}"}}'] for stack in ("onnx", "other")}
    assert found == {"onnx": 1, "other": 0}  # nothing is merged for an external server


async def test_an_endpoint_picker_finds_the_load_under_tritons_names(bench: Bench) -> None:
    assert {name: value for name, value in (await bench.samples()).items() if name.startswith("nv_")} == {
        "nv_inference_pending_request_count": 0,
        'nv_trt_llm_request_metrics{request_type="waiting"}': 0,
        'nv_trt_llm_request_metrics{request_type="scheduled"}': 0,
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}': 0,
    }


async def test_a_refused_call_is_one_line_of_json_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "services.gateway.failure_log"):
        await bench.refusal("alpha@onnx", "order-7", width=3)
        await bench.refusal("alpha@other", "order-8")
        await bench.refusal("never-heard-of", "order-9")
    found = [json.loads(line.getMessage()) for line in caplog.records if line.name.endswith("failure_log")]
    assert [(line["request_id"], line["stack"], line["code"]) for line in found] == [
        ("order-7", "onnx", "INVALID_ARGUMENT"),
        ("order-8", "other", "UNAVAILABLE"),
        ("order-9", "_unknown", "NOT_FOUND"),
    ]
    assert "never-heard-of" not in caplog.text


def test_a_worker_that_dies_amid_its_reply_is_left_out() -> None:
    with cut_short(to_json(added([])).encode()) as address:
        body = merged_pages(lambda: {"1": address})["/status.json"].body()
    assert from_json(body) == added([])
