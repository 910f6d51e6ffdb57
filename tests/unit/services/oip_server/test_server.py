"""A start that is given up half-way."""

import asyncio
import threading
from pathlib import Path

from services.oip_server.server import create_server
from services.onnx_svc.config import SERVICE, Settings
from tests.engines import Gated, GatedEngine
from tests.limits import LONG_S
from tests.tiny_onnx import linear, make_export


def test_a_start_that_is_given_up_loads_no_further_version(tmp_path: Path) -> None:
    for version in (1, 2):
        make_export(tmp_path, "simple_nn", version, content=linear(version))
    loading, gate = threading.Event(), threading.Event()
    loaded: list[str] = []

    def load(file: Path) -> GatedEngine:
        loaded.append(file.parent.name)
        loading.set()
        assert gate.wait(LONG_S)
        return Gated()(file)

    async def scenario() -> None:
        starting = asyncio.create_task(create_server(SERVICE, Settings(tmp_path, port=0, metrics_port=0), load))
        assert await asyncio.to_thread(loading.wait, LONG_S)
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()
        gate.set()

    asyncio.run(scenario())  # which waits for the thread
    assert loaded == ["2"]
