"""Real onnx_svc servers in this process, on free ports, and a client on one connection."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.dataplane.engine import Load
from services.oip_server.server import OipServer, create_server
from services.onnx_svc.config import SERVICE, Settings
from services.onnx_svc.ort import OrtEngine
from tests.limits import LONG_S
from tests.loop_thread import LoopThread
from tests.oip_client import Client
from tests.tiny_onnx import linear, make_export

ON_CPU: Load = partial(OrtEngine, device="cpu")


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.close()


def two_models(exports: Path) -> Path:
    """Make two equivalent models and an older version, told apart by their bias."""
    make_export(exports, "simple_nn", 1, content=linear(1))
    make_export(exports, "simple_nn", 2, content=linear(2))
    make_export(exports, "keras_dense", 1, content=linear(10))
    return exports


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    return two_models(tmp_path)


Start = Callable[..., OipServer]


def starter(loop: LoopThread, front: str) -> Iterator[Start]:
    started: list[OipServer] = []

    def start(models: Path, load: Load = ON_CPU, **changes: Any) -> OipServer:
        settings = Settings(models, **{"port": 0, "metrics_port": 0, "watch_s": 0.02, "front": front, **changes})
        started.append(loop.run(create_server(SERVICE, settings, load)))
        return started[-1]

    yield start
    for closing in [loop.start(server.close()) for server in started]:
        closing.result(LONG_S)


@pytest.fixture
def start_server(loop: LoopThread, front: str) -> Iterator[Start]:
    """Start servers that are closed after the test; keyword arguments change the settings."""
    yield from starter(loop, front)


@pytest.fixture(scope="module")
def shared_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the shared server serves; a test module may have its own."""
    return two_models(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def shared_server(loop: LoopThread, shared_exports: Path, front: str) -> Iterator[OipServer]:
    """One server for tests that only ask."""
    for start in starter(loop, front):
        yield start(shared_exports, max_message_bytes=2 * 2**20)


@pytest.fixture
def connect() -> Iterator[Callable[[OipServer], Client]]:
    clients: list[Client] = []

    def start(server: OipServer) -> Client:
        clients.append(Client(server.port))
        return clients[-1]

    yield start
    for client in clients:
        client.channel.close()


@pytest.fixture(scope="module")
def client(shared_server: OipServer) -> Iterator[Client]:
    """One connection to the shared server."""
    client = Client(shared_server.port)
    yield client
    client.channel.close()
