import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from pyarrow import parquet

ROOT = Path(__file__).parents[3]
ADDRESSES = ("GATEWAY_ADDR", "TORCH_SVC_ADDR", "TF_SVC_ADDR", "ONNX_SVC_ADDR")
QUICK = ["--duration=0.4", "--warmup=0.2", "--rate=200", "--min-requests=20", "--seed=7"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ADDRESSES}


def loadtest(stand: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", *stand.arguments, *QUICK, *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)


def rows(stand: Any, block: str) -> list[dict[str, Any]]:
    return parquet.read_table(stand.folder / f"results/latest/rows/{block}.parquet").to_pylist()


def run_json(stand: Any) -> Any:
    return json.loads((stand.folder / "results/latest/run.json").read_text())


def test_every_request_becomes_a_row_that_says_who_answered(stand: Any) -> None:
    done = loadtest(stand)
    assert (done.returncode, done.stderr) == (0, "")
    for via in ("direct", "gateway"):
        found = rows(stand, f"line@onnx.{via}")
        measured = [row for row in found if row["phase"] == "measure"]
        assert len(measured) >= 20
        assert len(found) > len(measured)
        assert all(row["ok"] and not row["wrong"] and row["code"] == "OK" for row in found)
        assert {row["path"] for row in found} == {"line@onnx"}
        assert {(row["engine"], row["engine_version"], row["version"]) for row in found} == {("test engine", "1.5", 1)}
        assert {row["gateway_us"] for row in found} == {40 if via == "gateway" else None}
        assert {row["scheduled_ns"] for row in found} == {None}
        assert all(0 < row["service_us"] < 5e6 for row in found)
    facts = run_json(stand)
    assert facts["complete"]
    assert facts["load_model"] == "closed loop"
    assert len(facts["blocks"]) == len(facts["expected"]) == 2
    assert set(stand.behaviour.models) == {"line", "line@onnx"}


def test_a_server_with_another_bias_is_caught_in_every_row(stand: Any) -> None:
    stand.behaviour.bias += 1.0
    assert loadtest(stand, "--via=direct").returncode == 0
    assert all(row["ok"] and row["wrong"] for row in rows(stand, "line@onnx.direct"))
    assert run_json(stand)["blocks"][0]["wrong_answers"] > 0


def test_a_right_answer_from_another_path_is_wrong(stand: Any) -> None:
    stand.behaviour.stack = "tfserving"
    assert loadtest(stand, "--via=gateway").returncode == 0
    assert all(row["ok"] and row["wrong"] for row in rows(stand, "line@onnx.gateway"))


def test_a_refusal_is_recorded_with_its_code(stand: Any) -> None:
    stand.behaviour.code = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert loadtest(stand, "--via=direct").returncode == 0
    found = rows(stand, "line@onnx.direct")
    assert {(row["ok"], row["code"], row["wrong"]) for row in found} == {(False, "RESOURCE_EXHAUSTED", False)}


def test_a_server_that_is_not_there_ends_the_run_before_it_starts(stand: Any) -> None:
    done = loadtest(stand, "--via=gateway", f"--env-file={stand.folder / 'nothing'}")
    assert done.returncode == 1
    assert done.stderr == "loadtest: GATEWAY_ADDR must be HOST:PORT and is ''; set it in .env or in the environment\n"
    (stand.folder / "env").write_text("".join(f"{name}=127.0.0.1:1\n" for name in ADDRESSES))
    done = loadtest(stand, "--via=gateway")
    assert done.returncode == 1
    assert done.stderr == "loadtest: line@onnx (gateway) at 127.0.0.1:1: UNAVAILABLE; run: make up\n"
    assert not (stand.folder / "results").exists()


def test_ctrl_c_writes_what_there_is_and_marks_it_incomplete(stand: Any) -> None:
    command = [sys.executable, "-m", "loadtest", *stand.arguments, *QUICK, "--duration=30", "--via=direct"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + 30
        while len(stand.behaviour.models) < 100 and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=15)
    assert run.returncode == 130
    assert not run_json(stand)["complete"]
    assert len(rows(stand, "line@onnx.direct")) >= 90


def test_locust_drives_the_same_users_by_hand(stand: Any) -> None:
    (stand.folder / ".env").write_text((stand.folder / "env").read_text())
    (stand.folder / "artifacts").mkdir()
    (stand.folder / "exports").rename(stand.folder / "artifacts/exports")
    locust = Path(sys.executable).parent / "locust"
    words = [str(locust), "-f", str(ROOT / "loadtest/locustfile.py"), "--headless", "-u2", "-r2", "-t1s", "--json"]
    done = subprocess.run(
        [*words, "line@onnx.direct", "line@onnx.gateway"],
        check=False,
        cwd=stand.folder,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert set(entries) == {"line@onnx.direct", "line@onnx.gateway"}
    assert all(entry["num_requests"] > 0 and entry["num_failures"] == 0 for entry in entries.values())
