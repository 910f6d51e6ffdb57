"""python -m services.gateway as its callers see it, alone and with several workers, on both listeners."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from grpc import aio

from servepath.protocols import servepath
from servepath.protocols.types import Request, Tensor
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.limits import LONG_S

ROOT = Path(__file__).parents[4]
DEPLOYMENTS = '[models.alpha]\ndefault = "onnx"\n[models.alpha.stacks.onnx]\nmax_in_flight = 2\n'
PAYLOAD = servepath.encode_request(Request("alpha", 0, (Tensor("x", "FP32", (1, 2), bytes(8)),)), "alpha", 0)


@asynccontextmanager
async def gateway(folder: Path, front: str, address: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a gateway on free ports."""
    make_export(folder, "alpha", "onnx")
    (folder / "deployments.toml").write_text(DEPLOYMENTS)
    command = ["--deployments", folder / "deployments.toml", "--exports", folder, "--port", "0", "--metrics-port", "0"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.gateway", *map(str, command), *arguments),
        cwd=ROOT,
        env={**os.environ, "FRONT": front, "ONNX_SVC_ADDR": address},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ports(process: asyncio.subprocess.Process, pattern: str) -> tuple[int, int]:
    assert process.stderr is not None
    async for line in process.stderr:
        if found := re.search(pattern, line.decode()):
            return int(found[1]), int(found[2])
    raise AssertionError("the gateway ended before it listened")


@pytest.mark.parametrize(
    ("workers", "pattern"),
    [
        ("1", r"listening on 127\.0\.0\.1:(\d+), metrics on 127\.0\.0\.1:(\d+)"),
        ("2", r"2 workers listen on 127\.0\.0\.1:(\d+), metrics on 127\.0\.0\.1:(\d+)"),
    ],
)
async def test_it_answers_counts_and_ends_with_exit_code_0(
    tmp_path: Path, front: str, workers: str, pattern: str
) -> None:
    stack = await FakeStack(FakeBackend(bias=7)).start()
    async with gateway(tmp_path, front, stack.address, "--workers", workers) as process:
        port, metrics_port = await ports(process, pattern)
        for _ in range(20):
            async with aio.insecure_channel(f"127.0.0.1:{port}", (("grpc.use_local_subchannel_pool", 1),)) as channel:
                reply = await channel.unary_unary(servepath.METHOD)(PAYLOAD, timeout=LONG_S)
                assert servepath.decode_answer(reply).served.engine == "fake"
        # A scrape leaves a worker out that does not answer it in two seconds.
        await until_shown(
            metrics_port, "metrics", 'servepath_requests_total{code="OK",model="alpha",stack="onnx"} 20.0'
        )
        # Calls are answered before the first proof has ended.
        whole = ["2 processes, their figures added up"] if workers == "2" else []
        page = await until_shown(
            metrics_port, "", "1 of 1 paths ready", "<dd>20 since the start, 20 in the last ", *whole
        )
        assert ("their figures added up" in page) == (workers == "2")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LONG_S):
            assert await process.wait() == 0
    await stack.stop()


async def until_shown(port: int, page: str, *texts: str, host: str = "127.0.0.1") -> str:
    """Return a page once it has all these texts."""
    shown = ""
    async with asyncio.timeout(LONG_S):
        while not all(text in shown for text in texts):
            await asyncio.sleep(0.01)
            shown = await asyncio.to_thread(scrape, port, host, page)
    return shown


def scrape(port: int, host: str, page: str) -> str:
    with urlopen(f"http://{host}:{port}/{page}", timeout=LONG_S) as reply:
        text: str = reply.read().decode()
    return text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "listening"),
    [
        ("1", r"listening on 127\.0\.0\.1:(\d+), metrics on 127\.0\.0\.2:(\d+)"),
        ("2", r"2 workers listen on 127\.0\.0\.1:(\d+), metrics on 127\.0\.0\.2:(\d+)"),
    ],
)
async def test_the_metrics_may_listen_on_an_address_of_their_own(
    tmp_path: Path, front: str, workers: str, listening: str
) -> None:
    words = ("--workers", workers, "--metrics-host", "127.0.0.2")
    async with gateway(tmp_path, front, "127.0.0.1:1", *words) as process:
        _, metrics_port = await ports(process, listening)
        await until_shown(metrics_port, "metrics", "servepath_path_ready", host="127.0.0.2")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", metrics_port)


@pytest.mark.parametrize("variables", [{}, {"OTEL_SERVICE_NAME": "edge"}, {"OTEL_TRACES_EXPORTER": "otlp"}])
async def test_opentelemetry_is_imported_where_its_variables_ask_for_traces_alone(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    make_export(tmp_path, "alpha", "onnx")
    (tmp_path / "deployments.toml").write_text(DEPLOYMENTS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-m", "services.gateway", "--port", "0", "--metrics-port", "0"),
        *("--deployments", str(tmp_path / "deployments.toml"), "--exports", str(tmp_path)),
        cwd=ROOT,
        env={**{name: value for name, value in os.environ.items() if name[:5] != "OTEL_"}, **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    imported = False
    try:
        async for line in process.stderr:
            imported |= line.startswith(b"import time:") and b"opentelemetry" in line
            if b"listening on" in line:
                break
        process.send_signal(signal.SIGTERM)
        await process.stderr.read()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert imported is ("OTEL_TRACES_EXPORTER" in variables)
