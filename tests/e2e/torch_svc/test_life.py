"""Starting, stopping, dying and renewing: whatever happens, no process is left and the reason is named."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from servepath.artifacts.manifest import digest
from servepath.protocols import errors
from servepath.protocols.types import Answer
from services.torch_svc import healthcheck
from tests.e2e.torch_svc.harness import Client, client_of, remaining, started, torch_ports
from tests.limits import LONG_S

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_with_0_and_leaves_nothing(exports: Path, tmp_path: Path, number: signal.Signals) -> None:
    with started(exports, tmp_path / "run") as service:
        service.wait_for("ready on")
        tree = service.whole_tree()
        assert [process.name() for process in tree][1] == "java"
        assert service.end(number) == 0
        assert remaining(tree) == []
        assert {path.name for path in service.run_dir.iterdir()} == {"config.properties", "lock", "worker-python"}


def test_told_to_stop_while_starting_it_ends_with_0_and_leaves_nothing(exports: Path, tmp_path: Path) -> None:
    with started(exports, tmp_path / "run") as service:
        service.wait_for("Model server started")
        tree = service.tree()
        assert service.end() == 0
        assert remaining(tree) == []


@pytest.mark.parametrize("moment", ["Model server started", "ready on"])
@pytest.mark.parametrize("victim", [0, 1])
def test_killing_the_entry_point_or_the_jvm_kills_all(exports: Path, tmp_path: Path, moment: str, victim: int) -> None:
    with started(exports, tmp_path / "run") as service:
        service.wait_for(moment)
        tree = service.whole_tree()
        tree[victim].kill()
        assert service.process.wait(LONG_S) == (-signal.SIGKILL, 1)[victim]
        assert remaining(tree) == []
        assert victim == 0 or "TorchServe exited unexpectedly (SIGKILL)" in service.log()


def test_what_a_killed_one_left_does_not_hinder_the_next(exports: Path, tmp_path: Path) -> None:
    with started(exports, tmp_path / "run") as service:
        service.wait_for("Model server started")
        tree = service.tree()
        tree[0].kill()
        assert remaining(tree) == []
    with started(exports, tmp_path / "run", ports=service.ports) as again:
        again.wait_for("ready on")


def test_a_killed_worker_is_replaced(exports: Path, tmp_path: Path) -> None:
    with started(exports, tmp_path / "run") as service:
        service.wait_for("ready on")
        worker = service.tree()[2]
        worker.kill()
        assert remaining([worker]) == []
        with client_of(service) as client:
            assert eventually(client).served.version == 1
        assert service.tree()[2] != worker


def eventually(client: Client) -> Answer:
    """Predict until the call is not one that died with the old worker."""
    for _ in range(50):
        # TorchServe may take a worker that was killed for one that had no memory: RESOURCE_EXHAUSTED.
        with contextlib.suppress(errors.BackendUnavailable, errors.Overloaded):
            return client.predict(bytes(8))
    pytest.fail("the worker was not replaced")


def test_a_renewed_key_works_and_the_old_one_is_refused(exports: Path, tmp_path: Path) -> None:
    with started(exports, tmp_path / "run", "--token-minutes", "5", "--token-renew-s", "15") as service:
        service.wait_for("ready on")
        old = service.token.metadata()
        assert (service.run_dir / "token").stat().st_mode & 0o777 == 0o600
        # Not by the log's line: a slow start may have seen a renewal before the first look.
        end = time.monotonic() + LONG_S
        while (new := service.token.reload()) == old and time.monotonic() < end:
            time.sleep(0.05)
        assert new != old
        with client_of(service) as client:
            with pytest.raises(errors.BackendMisconfigured):
                client.predict(bytes(8), metadata=old)
            assert client.predict(bytes(8), metadata=new).served.version == 1


def test_without_tokens_anyone_who_reaches_the_port_is_answered(exports: Path, tmp_path: Path) -> None:
    with started(exports, tmp_path / "run", "--without-tokens") as service:
        service.wait_for("ready on")
        assert "token authorization is disabled" in service.log()
        assert not (service.run_dir / "token").exists()
        with client_of(service) as client:
            assert client.predict(bytes(8), metadata=()).served.version == 1
        address, nothing = f"127.0.0.1:{service.port}", service.run_dir / "token"
        words = [address, "--run-dir", str(service.run_dir), "--token-file", str(nothing)]
        assert healthcheck.main(words) == 0


def test_two_run_at_once_one_of_them_open_to_others_and_in_a_folder_with_a_long_name(
    exports: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("long" * 25)
    with started(exports, tmp_path / "run") as one, started(exports, long, "--host", "0.0.0.0") as two:  # noqa: S104 - under test
        for service in (one, two):
            service.wait_for("ready on")
        for service in (one, two):
            with client_of(service) as client:
                (y,) = client.predict(np.zeros((3, 2), "<f4").tobytes()).outputs
                assert y.shape == (3, 1)
        open_ports = {
            connection.laddr.port
            for connection in psutil.Process(two.tree()[1].pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN and not connection.laddr.ip.endswith("127.0.0.1")
        }
        assert open_ports == {two.port}
        short = (long / "tmp").readlink()
        assert two.end() == 0
        assert not short.exists()


@pytest.mark.parametrize("field", ["inference", "metrics"])
def test_a_busy_port_is_refused_by_name(exports: Path, tmp_path: Path, field: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = torch_ports() | {field: taken.getsockname()[1]}
        with started(exports, tmp_path / "run", ports=ports) as service:
            assert service.process.wait(LONG_S) == 1
            assert f"port {ports[field]}" in service.log()
            assert len(service.log().splitlines()) == 1


def test_an_archive_that_is_not_what_its_manifest_describes_is_found_out_by_asking_it(
    exports: Path, tmp_path: Path
) -> None:
    other = tmp_path / "exports"
    shutil.copytree(exports, other)
    path = other / "simple_nn" / "mar" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    contents = manifest["contents"] | {"handler.py": "0" * 64}
    path.write_text(json.dumps(manifest | {"contents": contents, "sha256": digest(contents)}))
    with started(other, tmp_path / "run") as service:
        assert service.process.wait(LONG_S) == 1
        assert f"sha256 {manifest['sha256']}, its manifest says version 1 sha256 {digest(contents)}" in service.log()


def test_an_archive_cut_in_half_is_refused_in_one_line_that_names_it(exports: Path, tmp_path: Path) -> None:
    broken = tmp_path / "exports"
    shutil.copytree(exports, broken)
    archive = broken / "simple_nn" / "mar" / "1" / "simple_nn.mar"
    os.truncate(archive, archive.stat().st_size // 2)
    with started(broken, tmp_path / "run") as service:
        assert service.process.wait(LONG_S) == 1
        assert service.log() == (
            f"torch_svc: {archive} does not match its manifest; remove {archive.parent} and "
            "run: make export or make import\n"
        )
