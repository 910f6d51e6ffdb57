"""The probe of a model that takes its time: it is asked once, and looked at now and then."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from safetensors.numpy import save

from servepath.artifacts.manifest import Manifest
from servepath.protocols import torchserve
from servepath.protocols.token import TokenFile
from servepath_pb.servepath.torchserve.torchserve_pb2 import PredictionResponse
from services.torch_svc.probe import Probe
from tests.limits import LONG_S
from tests.loop_thread import wait_until
from tests.manifests import write_manifest


class Held:
    """A TorchServe that answers when the test lets it. calls: the requests that came."""

    def __init__(self, manifest: Manifest) -> None:
        identity = {"engine": "torchserve", "engine_version": "0.12.0"}
        identity |= {"version": str(manifest.version), "sha256": manifest.sha256}
        prediction = save({"y": np.zeros((1, 1), np.float32)}, identity)
        self._reply = PredictionResponse(prediction=prediction).SerializeToString()
        self.gate = threading.Event()
        self.calls: list[bytes] = []

    def answer(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.calls.append(request)
        assert self.gate.wait(LONG_S)
        return self._reply


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "model.mar").write_bytes(b"model")
    return write_manifest(tmp_path, "simple_nn", "mar", 1)


@pytest.fixture
def held(manifest: Manifest) -> Held:
    return Held(manifest)


@pytest.fixture
def probe(held: Held, manifest: Manifest, tmp_path: Path) -> Iterator[Probe]:
    server = grpc.server(ThreadPoolExecutor(4))
    method = grpc.unary_unary_rpc_method_handler(held.answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(torchserve.SERVICE, {"Predictions": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    probe = Probe(f"127.0.0.1:{port}", {manifest.model: manifest}, TokenFile(tmp_path / "token"))
    yield probe
    held.gate.set()
    probe.close()
    server.stop(0).wait()


def test_a_slow_model_is_asked_once_and_its_answer_counts_whenever_it_comes(probe: Probe, held: Held) -> None:
    wait_until(lambda: probe.step() or bool(held.calls), "the model is asked")
    for _ in range(3):
        assert not probe.step()
    held.gate.set()
    wait_until(probe.step, "the model has answered")
    assert len(held.calls) == 1
