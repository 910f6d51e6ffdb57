"""The process: start, refusal to start, bounds, signals; and the command line of the real server by a stand-in."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from services.wire import tfserving
from tests.manifests import write_manifest
from tests.tf_server import TfServer, ask, eventually, tensor

X = tensor(1, (1, 2), float_val=[1.0, 2.0])
# Stands in for the real program, which no package index has: it says its version, records its arguments and ends.
STAND_IN = """#!/bin/sh
if [ "$1" = --version ]; then echo "TensorFlow ModelServer: 0.0.0-stand-in"; exit 0; fi
echo $$ > {record}.pid
printf '%s\\n' "$@" > {record}
exit 42
"""


@pytest.fixture
def exports(built: Path, tmp_path: Path) -> Path:
    """Give exports of one model that this test may change."""
    shutil.copytree(built / "linear" / "saved_model" / "1", tmp_path / "exports" / "linear" / "saved_model" / "1")
    return tmp_path / "exports"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0(exports: Path, tmp_path: Path, number: signal.Signals) -> None:
    with TfServer(exports, tmp_path / "run") as server:
        server.wait_ready()
        assert server.predict(ask("linear", x=X)).outputs["y"].float_val == [6.0]
        server.send(number)
        assert server.wait_exit() == 0
        assert "Traceback" not in server.log


def test_a_signal_while_it_loads_ends_it_with_exit_code_0(exports: Path, tmp_path: Path) -> None:
    with TfServer(exports, tmp_path / "run") as server:
        eventually((tmp_path / "run" / "models.config").exists)
        server.send(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert "listening" not in server.log


def test_calls_beyond_its_bounds_are_refused_and_none_is_lost(exports: Path, tmp_path: Path) -> None:
    payload = ask("linear", x=tensor(1, (20_000, 2), float_val=[1.0] * 40_000)).SerializeToString()
    bounds = {"TF_SVC_MAX_CALLS": "2", "TF_SVC_THREADS": "1", "TF_SVC_MAX_MESSAGE_BYTES": "200000"}
    with TfServer(exports, tmp_path / "run", **bounds) as server:
        server.wait_ready()
        call = server.channel.unary_unary(tfserving.METHOD)
        codes = [future.code() for future in [call.future(payload, timeout=30) for _ in range(40)]]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(200_001), timeout=10)
        assert tfserving.translate(caught.value.code(), caught.value.details()).reason == "TOO_LARGE"


def test_a_busy_port_is_named_before_anything_is_loaded(exports: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with TfServer(exports, tmp_path / "run", ["--port", str(port)]) as server:
            assert server.wait_exit() == 1
            assert f"port {port} on 127.0.0.1 cannot be bound" in server.log
            assert len(server.log.splitlines()) == 1


def test_a_corrupt_newest_version_at_the_start_is_fatal_and_named(built: Path, exports: Path, tmp_path: Path) -> None:
    newest = exports / "linear" / "saved_model" / "2"
    shutil.copytree(built / "linear" / "saved_model" / "2", newest)
    (newest / "saved_model.pb").write_bytes(b"")
    with TfServer(exports, tmp_path / "run") as server:
        assert server.wait_exit() == 1
        assert str(newest / "saved_model.pb") in server.log
        assert len(server.log.splitlines()) == 1


def test_a_savedmodel_that_matches_its_manifest_but_does_not_load_is_fatal_and_named(
    exports: Path, tmp_path: Path
) -> None:
    folder = exports / "linear" / "saved_model" / "1"
    (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:500])
    write_manifest(folder, "linear", "saved_model", 1)
    with TfServer(exports, tmp_path / "run") as server:
        assert server.wait_exit() == 1
        assert f"{folder} cannot be loaded" in server.log
        assert len(server.log.splitlines()) == 1


def run_with_stand_in(tmp_path: Path, *arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    program, record = tmp_path / "stand_in", tmp_path / "record"
    program.write_text(STAND_IN.format(record=record))
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "services.tf_svc", "--run-dir", tmp_path / "run", *arguments],
        env={**os.environ, "TENSORFLOW_MODEL_SERVER": str(program)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, record


def test_the_real_server_is_started_in_this_process_with_both_files(exports: Path, tmp_path: Path) -> None:
    port = free_port()
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(port))
    assert done.returncode == 42
    assert record.read_text().splitlines() == [
        f"--port={port}",
        "--rest_api_port=0",
        f"--model_config_file={tmp_path}/run/models.config",
        "--file_system_poll_wait_seconds=1",
        "--enable_batching=true",
        f"--batching_parameters_file={tmp_path}/run/batching.config",
        "--grpc_max_threads=300",
        "--grpc_channel_arguments=grpc.so_reuseport=0",
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
        "--tensorflow_intra_op_parallelism=1",
        "--tensorflow_inter_op_parallelism=1",
        "--enable_profiler=false",
        "--enable_grpc_healthcheck_service=true",
    ]
    assert f'base_path: "{exports}/linear/saved_model"' in (tmp_path / "run" / "models.config").read_text()
    assert "max_batch_size { value: 4096 }" in (tmp_path / "run" / "batching.config").read_text()
    assert "tensorflow_model_server 0.0.0-stand-in" in done.stderr
    assert "listens on every interface" in done.stderr


def test_the_real_server_gets_a_config_of_the_users_own_unread(tmp_path: Path) -> None:
    config = tmp_path / "mine.config"
    config.write_text("model_config_list { config { model_version_policy { all {} } } }")
    _, record = run_with_stand_in(tmp_path, "--config", config, "--port", str(free_port()))
    assert f"--model_config_file={config}" in record.read_text().splitlines()


def test_the_real_server_is_not_started_on_a_corrupt_version(exports: Path, tmp_path: Path) -> None:
    (exports / "linear" / "saved_model" / "1" / "saved_model.pb").write_bytes(b"")
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(free_port()))
    assert (done.returncode, record.exists()) == (1, False)
    assert "saved_model.pb is not what its manifest says" in done.stderr


def test_the_real_server_cannot_be_asked_for_any_free_port(exports: Path, tmp_path: Path) -> None:
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", "0")
    assert (done.returncode, record.exists()) == (1, False)
    assert "give --port a number" in done.stderr
