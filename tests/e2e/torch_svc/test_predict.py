"""Predictions on the real TorchServe through our codec."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml

from servepath.artifacts.manifest import artifact_folder, read_manifest
from servepath.protocols import errors, torchserve
from servepath.protocols.types import Answer, Request, Tensor
from services.torch_svc import healthcheck
from tests.e2e.torch_svc.harness import ROOT, Client, TorchSvc, client_of, started
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def outputs(answer: Answer) -> Any:
    (y,) = answer.outputs
    assert (y.name, y.dtype) == ("y", "FP32")
    return np.frombuffer(y.data, "<f4").reshape(y.shape)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64])
def test_batches_of_any_size_are_answered_correctly(client: Client, reference: dict[str, Any], rows: int) -> None:
    y = outputs(client.predict(reference["x"][:rows].tobytes()))
    assert y.shape == (rows, 1)
    np.testing.assert_allclose(y, reference["y"][:rows], **TOLERANCE)


def test_every_answer_names_the_exported_artifact(client: Client, exports: Path) -> None:
    manifest = read_manifest(artifact_folder(exports, "simple_nn", "mar", 1))
    served = client.predict(bytes(8)).served
    assert (served.engine, served.engine_version) == ("torchserve", "0.12.0")
    assert (served.version, served.sha256, served.sha256_observed) == (1, manifest.sha256, True)


def test_bad_items_fail_alone_among_their_batch_mates(client: Client, reference: dict[str, Any]) -> None:
    rows = [reference["x"][index : index + 1] for index in range(90)]
    bad = set(range(0, 90, 3))
    futures = [client.start(row.tobytes()[: 7 if index in bad else 8]) for index, row in enumerate(rows)]
    for index, future in enumerate(futures):
        if index in bad:
            with pytest.raises(errors.BadInput) as caught:
                client.answer(future)
            assert caught.value.reason == "BAD_INPUT.SHAPE"
        else:
            np.testing.assert_allclose(outputs(client.answer(future)), reference["y"][index : index + 1], **TOLERANCE)


def test_a_full_queue_refuses_the_rest_and_answers_those_in_it_correctly(
    service: TorchSvc, client: Client, reference: dict[str, Any]
) -> None:
    config = yaml.safe_load((ROOT / "services" / "torch_svc" / "model-config.yaml").read_text())
    queue, batch, too_many = config["jobQueueSize"], config["batchSize"], 100
    sent = queue + batch + too_many
    worker = service.tree()[2]
    worker.suspend()
    try:
        futures = [client.start(row.tobytes()) for row in reference["x"][:sent]]
        give_up = time.monotonic() + LONG_S
        while sum(future.done() for future in futures) < too_many and time.monotonic() < give_up:
            time.sleep(0.02)
    finally:
        worker.resume()
    refused = 0
    for index, future in enumerate(futures):
        try:
            np.testing.assert_allclose(outputs(client.answer(future))[0], reference["y"][index], **TOLERANCE)
        except errors.Overloaded:
            refused += 1
    assert too_many <= refused <= too_many + batch


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer abcdefgh"),)])
def test_without_the_key_nobody_is_served(client: Client, metadata: Any) -> None:
    with pytest.raises(errors.BackendMisconfigured):
        client.predict(bytes(8), metadata=metadata)


def test_a_model_that_torchserve_does_not_have_is_a_misconfiguration(client: Client) -> None:
    with pytest.raises(errors.BackendMisconfigured):
        client.predict(bytes(8), model="nobody")


def test_our_size_limit_is_torchserves_own(client: Client) -> None:
    size = 6 * 10**6
    request = Request("simple_nn", 0, (Tensor("x", "FP32", (size // 8, 2), bytes(size)),))
    overhead = len(torchserve.encode_request(request, "simple_nn", 0)) - size
    rows = (torchserve.MAX_REQUEST_BYTES - overhead) // 8
    (y,) = client.predict(bytes(rows * 8)).outputs
    assert y.shape == (rows, 1)
    with pytest.raises(errors.TooLarge):
        client.predict(bytes((rows + 1) * 8))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_an_answer_larger_than_any_request_leaves_the_worker_alive(tmp_path: Path) -> None:
    rows, width = 100, 20_000
    torch.jit.script(torch.nn.Linear(2, width)).save(str(tmp_path / "wide.pt"))
    said = '[inputs]\ninput = { dtype = "FP32", shape = ["batch", 2] }\n[names]\ninput = "x"\n'
    (tmp_path / "wide.toml").write_text(said)
    words = ["export.importing", str(tmp_path / "wide.pt"), "--name", "wide", "--spec", str(tmp_path / "wide.toml")]
    words += ["--no-deploy", "--out", str(tmp_path / "exports")]
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=LONG_S)
    with started(tmp_path / "exports", tmp_path / "run") as service:
        service.wait_for("ready on")
        worker = service.whole_tree()[-1].pid
        with client_of(service) as client:
            (y,) = client.predict(bytes(8 * rows), model="wide").outputs
        assert (y.shape, len(y.data) > torchserve.MAX_REQUEST_BYTES) == ((rows, width), True)
        assert service.whole_tree()[-1].pid == worker


def test_a_thousand_requests_add_less_than_20_kilobytes_of_log(service: TorchSvc, client: Client) -> None:
    def files() -> int:
        logs = [service.log_file, *(path for path in service.run_dir.rglob("*.log*") if path.is_file())]
        return sum(path.stat().st_size for path in logs)

    before = files()
    for _ in range(1000):
        client.predict(bytes(8))
    for _ in range(100):
        with pytest.raises(errors.BackendMisconfigured):
            client.predict(bytes(8), metadata=())
    assert files() - before < 20_000


def test_it_listens_on_its_five_ports_and_on_loopback_only(service: TorchSvc) -> None:
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in service.tree()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port) for port in service.ports.values()}


def test_the_containers_health_check_asks_every_model_and_is_answered(service: TorchSvc) -> None:
    assert [file.name for file in (service.run_dir / "health").iterdir()] == ["simple_nn"]
    healthcheck.check(f"127.0.0.1:{service.port}", service.run_dir / "health", service.run_dir / "token")
