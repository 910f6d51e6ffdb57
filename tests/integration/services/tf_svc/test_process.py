"""The process: start, refusal to start, bounds, signals; and the command line of the real server by a stand-in."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from servepath.cli.cores import usable_cores
from servepath.protocols import tfserving
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc import binary
from services.tf_svc.config import read_settings
from tests.limits import LONG_S
from tests.manifests import write_manifest
from tests.ports import free_ports
from tests.tf_server import TfServer, ask, eventually, tensor

pytestmark = pytest.mark.slow

X = tensor(1, (1, 2), float_val=[1.0, 2.0])
# Stands in for the real program, which no package index has: it says its version, records its arguments and ends.
STAND_IN = """#!/bin/sh
if [ "$1" = --version ]; then echo "TensorFlow ModelServer: 0.0.0-stand-in"; exit 0; fi
printf '%s\\n' "$@" > {record}
exit 42
"""
LASTING_STAND_IN = """#!/bin/sh
if [ "$1" = --version ]; then echo "TensorFlow ModelServer: 0.0.0-stand-in"; exit 0; fi
echo $$ > {record}.pid
exec sleep 600
"""


@pytest.fixture
def exports(built: Path, tmp_path: Path) -> Path:
    """Return exports of one model that this test may change."""
    shutil.copytree(built / "linear" / "saved_model" / "1", tmp_path / "exports" / "linear" / "saved_model" / "1")
    return tmp_path / "exports"


def free_port() -> int:
    return free_ports(1)[0]


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
        codes = [future.code() for future in [call.future(payload, timeout=LONG_S) for _ in range(40)]]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(200_001), timeout=LONG_S)
        assert tfserving.translate(caught.value.code(), caught.value.details()).reason == "TOO_LARGE"


def test_a_busy_port_is_named_before_anything_is_loaded(exports: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with TfServer(exports, tmp_path / "run", ["--port", str(port)]) as server:
            assert server.wait_exit() == 1
            assert f"port {port} on 127.0.0.1 cannot be bound" in server.log
            assert len(server.log.splitlines()) == 1


def test_a_corrupt_newest_version_at_the_start_is_named_and_the_one_before_it_served(
    built: Path, exports: Path, tmp_path: Path
) -> None:
    newest = exports / "linear" / "saved_model" / "2"
    shutil.copytree(built / "linear" / "saved_model" / "2", newest)
    (newest / "saved_model.pb").write_bytes(b"")
    with TfServer(exports, tmp_path / "run") as server:
        server.wait_ready()
        assert server.predict(ask("linear", x=X)).model_spec.version.value == 1
        assert f"version 2 refused, nothing is served: {newest}/saved_model.pb" in server.log


def test_a_corrupt_only_version_at_the_start_is_fatal_and_named(exports: Path, tmp_path: Path) -> None:
    only = exports / "linear" / "saved_model" / "1" / "saved_model.pb"
    only.write_bytes(b"")
    with TfServer(exports, tmp_path / "run") as server:
        assert server.wait_exit() == 1
        assert f"tf_svc cannot start: {only} does not match its manifest" in server.log


def config_for(tmp_path: Path, name: str, base: Path, more: str = "") -> Path:
    """Write a models.config of a user's own: its folders are the server's to judge, unstaged."""
    file = tmp_path / "mine.config"
    entry = f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more}'
    file.write_text(f"model_config_list {{ config {{ {entry} }} }}")
    return file


def cut_graph(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:500])


def cut_weights(folder: Path) -> None:
    weights = next((folder / "variables").glob("variables.data*"))
    weights.write_bytes(weights.read_bytes()[:4])


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (cut_graph, grpc.StatusCode.DATA_LOSS),
        (lambda folder: (folder / "saved_model.pb").unlink(), grpc.StatusCode.NOT_FOUND),
        (lambda folder: (folder / "variables" / "variables.index").unlink(), grpc.StatusCode.FAILED_PRECONDITION),
        (cut_weights, grpc.StatusCode.OUT_OF_RANGE),
    ],
)
def test_a_version_that_does_not_load_ends_with_the_code_that_tensorflow_gives(
    built: Path, exports: Path, tmp_path: Path, damage: Callable[[Path], None], code: grpc.StatusCode
) -> None:
    base = exports / "linear" / "saved_model"
    with TfServer(exports, tmp_path / "run", ["--config", str(config_for(tmp_path, "linear", base))]) as server:
        server.wait_ready()
        shutil.copytree(built / "linear" / "saved_model" / "2", base / ".2.tmp")
        damage(base / ".2.tmp")
        (base / ".2.tmp").rename(base / "2")
        eventually(lambda: server.states("linear").get(2) == (50, code.value[0]))
        assert server.predict(ask("linear", x=X)).model_spec.version.value == 1
        # Its number is spent, as in the real server.
        shutil.rmtree(base / "2")
        shutil.copytree(built / "linear" / "saved_model" / "2", base / ".2.tmp")
        (base / ".2.tmp").rename(base / "2")
        time.sleep(2.5)  # two looks at the disk
        assert server.predict(ask("linear", x=X)).model_spec.version.value == 1


def test_a_file_named_as_a_version_keeps_the_server_from_starting_where_it_is_not_staged(
    exports: Path, tmp_path: Path
) -> None:
    base = exports / "linear" / "saved_model"
    (base / "99").write_text("a file")
    with TfServer(exports, tmp_path / "run", ["--config", str(config_for(tmp_path, "linear", base))]) as server:
        assert server.wait_exit() == 1
        assert f"{base}/99 cannot be loaded" in server.log
    with TfServer(exports, tmp_path / "run2") as server:
        server.wait_ready()
        assert server.predict(ask("linear", x=X)).model_spec.version.value == 1


def test_a_version_whose_warm_up_record_fails_is_refused_and_the_one_before_it_serves_on(
    built: Path, tmp_path: Path
) -> None:
    base = tmp_path / "exports" / "divided" / "saved_model"
    good = tensor(3, (1,), int_val=[1])
    shutil.copytree(built / "divided" / "saved_model" / "1", base / "1")
    warm_up(base / "1", ask("divided", x=good))
    with TfServer(tmp_path / "exports", tmp_path / "run") as server:
        server.wait_ready()
        shutil.copytree(base / "1", base / ".2.tmp")
        warm_up(base / ".2.tmp", ask("divided", x=tensor(3, (1,), int_val=[0])), version=2)
        (base / ".2.tmp").rename(base / "2")
        eventually(lambda: server.states("divided").get(2) == (50, grpc.StatusCode.INVALID_ARGUMENT.value[0]))
        assert server.predict(ask("divided", x=good)).model_spec.version.value == 1
        assert "warm-up record is refused" in server.log


def warm_up(folder: Path, request: pb.PredictRequest, version: int = 1) -> None:
    """Put a warm-up record into a version folder, written by TensorFlow, and make its manifest true again."""
    log = pb.PredictionLog(predict_log=pb.PredictLog(request=request)).SerializeToString()
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir(exist_ok=True)
    script = (
        "import sys, tensorflow as tf\nwith tf.io.TFRecordWriter(sys.argv[1]) as w: w.write(bytes.fromhex(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, file, log.hex()], check=True, capture_output=True)
    write_manifest(folder, "divided", "saved_model", version)


def test_a_label_of_the_users_config_names_its_version(exports: Path, tmp_path: Path) -> None:
    labels = "version_labels { key: 'stable' value: 1 } version_labels { key: 'canary' value: 5 }"
    config = config_for(tmp_path, "linear", exports / "linear" / "saved_model", labels)
    with TfServer(exports, tmp_path / "run", ["--config", str(config)]) as server:
        server.wait_ready()
        request = ask("linear", x=X)
        request.model_spec.version_label = "stable"
        assert server.predict(request).model_spec.version.value == 1
        request.model_spec.version_label = "canary"
        with pytest.raises(grpc.RpcError) as caught:
            server.predict(request)
        assert caught.value.details() == "Servable not found for request: Specific(linear, 5)"


def test_a_savedmodel_that_only_pythons_loader_restores_is_refused(tmp_path: Path) -> None:
    script = """
import sys, keras, tensorflow as tf
module = tf.Module()
module.model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1)])
serve = tf.function(lambda x: {"y": module.model(x)})
signature = serve.get_concrete_function(tf.TensorSpec((None, 2), tf.float32, "x"))
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": signature})
assert tf.saved_model.load(sys.argv[1]).signatures["serving_default"](x=tf.ones((1, 2)))["y"].shape == (1, 1)
"""
    folder = tmp_path / "exports" / "linear" / "saved_model" / "1"
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", script, folder], check=True, capture_output=True)
    write_manifest(folder, "linear", "saved_model", 1)
    with TfServer(tmp_path / "exports", tmp_path / "run") as server:
        server.wait_ready()
        with pytest.raises(grpc.RpcError) as caught:
            server.predict(ask("linear", x=X))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_it_listens_on_a_unix_socket_and_on_no_port(exports: Path, tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # as a killed server leaves it
    with TfServer(exports, tmp_path / "run", ["--socket", str(path)]) as server:
        server.wait_ready()
        assert server.address == f"unix:{path}"
        assert server.predict(ask("linear", x=X)).outputs["y"].float_val == [6.0]
        process = psutil.Process(server.process.pid)
        assert [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN] == []
        with TfServer(exports, tmp_path / "run2", ["--socket", str(path)]) as second:
            assert second.wait_exit() == 1
            assert f"a server listens on {path}" in second.log


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


def test_the_real_server_is_started_without_batching_on_staged_folders(exports: Path, tmp_path: Path) -> None:
    port = free_port()
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(port))
    assert done.returncode == 42
    assert record.read_text().splitlines() == [
        f"--port={port}",
        f"--model_config_file={tmp_path}/run/models.config",
        f"--tensorflow_intra_op_parallelism={usable_cores()}",
        "--rest_api_port=0",
        "--allow_version_labels_for_unavailable_models=true",
        "--file_system_poll_wait_seconds=1",
        "--grpc_max_threads=301",
        "--grpc_channel_arguments=grpc.so_reuseport=0",
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
        "--tensorflow_inter_op_parallelism=1",
        "--enable_profiler=false",
        "--enable_grpc_healthcheck_service=true",
    ]
    assert f'base_path: "{tmp_path}/run/served/linear"' in (tmp_path / "run" / "models.config").read_text()
    staged = tmp_path / "run" / "served" / "linear" / "1"
    assert staged.resolve() == exports / "linear" / "saved_model" / "1"
    assert "tensorflow_model_server 0.0.0-stand-in" in done.stderr
    assert "listens on every interface" in done.stderr


def test_one_call_at_a_time_takes_two_threads_of_which_the_last_refuses(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_SVC_MAX_CALLS", "1")
    _, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(free_port()))
    assert "--grpc_max_threads=2" in record.read_text().splitlines()


def test_the_real_server_is_given_a_socket_and_no_port(exports: Path, tmp_path: Path) -> None:
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--socket", tmp_path / "grpc.sock")
    assert record.read_text().splitlines()[:2] == ["--port=0", f"--grpc_socket_path={tmp_path}/grpc.sock"]
    assert "every interface" not in done.stderr


def test_the_real_servers_version_is_where_callers_are_told_to_look(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "elsewhere"
    monkeypatch.setenv("TF_SVC_VERSION_FILE", str(place))
    written: list[str] = []
    monkeypatch.setattr(binary, "write_file", lambda path, text: written.append(f"{path} {text}"))
    settings = read_settings(["--models", str(exports), "--run-dir", str(tmp_path / "run")])
    program = tmp_path / "stand_in"
    program.write_text(STAND_IN.format(record=tmp_path / "record"))
    program.chmod(0o755)
    assert binary.run([str(program)], settings, threading.Event(), lambda: None) == 42
    assert written == [f"{place} 0.0.0-stand-in\n"]


def test_the_real_server_gets_a_config_of_the_users_own_unread(tmp_path: Path) -> None:
    config = tmp_path / "mine.config"
    config.write_text("model_config_list { config { model_version_policy { all {} } } }")
    _, record = run_with_stand_in(tmp_path, "--config", config, "--port", str(free_port()))
    assert f"--model_config_file={config}" in record.read_text().splitlines()


def test_the_real_server_is_not_started_on_a_corrupt_version(exports: Path, tmp_path: Path) -> None:
    (exports / "linear" / "saved_model" / "1" / "saved_model.pb").write_bytes(b"")
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(free_port()))
    assert (done.returncode, record.exists()) == (1, False)
    assert "saved_model.pb does not match its manifest" in done.stderr


def test_the_real_server_cannot_be_asked_for_any_free_port(exports: Path, tmp_path: Path) -> None:
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", "0")
    assert (done.returncode, record.exists()) == (1, False)
    assert "give --port a number" in done.stderr


def test_a_port_held_on_any_address_keeps_the_real_server_from_starting(exports: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.2", 0)) as holder:
        port = holder.getsockname()[1]
        done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(port))
    assert (done.returncode, record.exists()) == (1, False)
    assert f"port {port} on " in done.stderr
    assert "cannot be bound (Address already in use); set TF_SVC_PORT" in done.stderr


@pytest.fixture
def watched(exports: Path, tmp_path: Path) -> Iterator[TfServer]:
    """Yield tf_svc over a stand-in that runs until it is ended."""
    program = tmp_path / "lasting"
    program.write_text(LASTING_STAND_IN.format(record=tmp_path / "record"))
    program.chmod(0o755)
    words = ["--engine", "auto", "--socket", str(tmp_path / "grpc.sock")]
    with TfServer(exports, tmp_path / "run", words, TENSORFLOW_MODEL_SERVER=str(program)) as server:
        eventually(lambda: (tmp_path / "record.pid").exists() and (tmp_path / "record.pid").read_text())
        yield server


def test_versions_are_staged_while_the_real_server_runs_and_sigterm_ends_both_with_0(
    built: Path, exports: Path, tmp_path: Path, watched: TfServer
) -> None:
    staged = tmp_path / "run" / "served" / "linear"
    assert [path.name for path in staged.iterdir()] == ["1"]
    assert (tmp_path / "run" / "version").read_text() == "0.0.0-stand-in\n"
    shutil.copytree(built / "linear" / "saved_model" / "2", exports / "linear" / "saved_model" / "2")
    eventually(lambda: [path.name for path in staged.iterdir()] == ["2"])
    child = int((tmp_path / "record.pid").read_text())
    watched.send(signal.SIGTERM)
    assert watched.wait_exit() == 0
    assert not psutil.pid_exists(child)
    assert not (tmp_path / "run" / "version").exists()


def test_the_real_server_dies_with_tf_svc(tmp_path: Path, watched: TfServer) -> None:
    child = int((tmp_path / "record.pid").read_text())
    watched.send(signal.SIGKILL)
    watched.wait_exit()
    eventually(lambda: not psutil.pid_exists(child))


def test_a_second_tf_svc_is_kept_out_of_the_run_folder(exports: Path, tmp_path: Path, watched: TfServer) -> None:
    done, record = run_with_stand_in(tmp_path, "--models", exports, "--port", str(free_port()))
    assert (done.returncode, record.exists()) == (1, False)
    assert f"another tf_svc uses {tmp_path}/run" in done.stderr
    assert watched.process.poll() is None


def test_a_fault_in_staging_does_not_end_the_real_server(
    exports: Path, built: Path, tmp_path: Path, watched: TfServer
) -> None:
    served = tmp_path / "run" / "served" / "linear"
    shutil.rmtree(served)
    served.write_text("in the way")
    shutil.copytree(built / "linear" / "saved_model" / "2", exports / "linear" / "saved_model" / "2")
    eventually(lambda: "following its versions failed" in watched.log)
    served.unlink()
    eventually((served / "2").exists)
    assert watched.process.poll() is None
