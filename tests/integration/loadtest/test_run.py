import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from pyarrow import parquet

from servepath.protocols.stacks import STACKS
from tests.integration.loadtest.conftest import write_reference
from tests.limits import LONG_S

ROOT = Path(__file__).parents[3]
ADDRESSES = ("GATEWAY_ADDR", *(stack.address_variable for stack in STACKS.values()))
QUICK = ["--duration=0.2", "--warmup=0.2", "--rate=200", "--min-requests=20", "--seed=7", "--rounds=2"]
MEASUREMENTS = ("line@onnx.direct", "line@onnx.gateway", "null@null.direct")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ADDRESSES}


def loadtest(stand: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return loadtest_with(*stand.arguments, *QUICK, *arguments)


def loadtest_with(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", *words]
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=LONG_S
    )


def rows(stand: Any, measurement: str) -> list[dict[str, Any]]:
    files = sorted((stand.folder / "results/latest/rows").glob(f"r*-{measurement}.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def run_json(stand: Any) -> Any:
    return json.loads((stand.folder / "results/latest/run.json").read_text())


def test_every_request_becomes_a_row_that_says_who_answered(stand: Any) -> None:
    done = loadtest(stand)
    assert (done.returncode, done.stderr) == (0, "")
    for via in ("direct", "gateway"):
        found = rows(stand, f"line@onnx.{via}")
        assert all(row["ok"] and not row["wrong"] and row["code"] == "OK" for row in found)
        assert {row["path"] for row in found} == {"line@onnx"}
        assert {(row["engine"], row["engine_version"], row["version"]) for row in found} == {("test engine", "1.5", 1)}
        assert {row["gateway_us"] for row in found} == {40 if via == "gateway" else None}
        assert all(0 < row["service_us"] < 5e6 for row in found)
    assert set(stand.behaviour.models) == {"line", "line@onnx"}
    proof = {"difference": stand.behaviour.difference, "refused": "", "unbatched": ""}
    assert run_json(stand)["proofs"] == {"line@onnx.gateway": proof}


@pytest.mark.slow
def test_each_round_has_a_file_for_every_block_and_for_the_no_op_server(stand: Any) -> None:
    assert loadtest(stand).returncode == 0
    facts = run_json(stand)
    assert facts["complete"]
    assert (facts["schema"], facts["rounds"]) == (3, 2)
    assert {f"{entry['model']}@{entry['stack']}.{entry['via']}" for entry in facts["expected"]} == set(MEASUREMENTS)
    named = [measurement["rows"] for measurement in facts["measurements"]]
    assert sorted(named) == sorted(
        f"rows/r0{number}-{measurement}.parquet" for number in (0, 1) for measurement in MEASUREMENTS
    )
    for measurement in facts["measurements"]:
        found = parquet.read_table(stand.folder / "results/latest" / measurement["rows"]).to_pylist()
        phases = [row["phase"] for row in found]
        assert phases.count("measure") == measurement["requests"] == 40
        assert phases.count("warmup") == measurement["warmup_requests"] >= 30
        assert {row["round"] for row in found} == {measurement["round"]}
        assert {row["run"] for row in found} == {facts["run"]}


@pytest.mark.slow
def test_an_open_loop_records_when_each_request_was_due_and_when_it_left(stand: Any) -> None:
    assert loadtest(stand, "--via=direct").returncode == 0
    assert run_json(stand)["load_model"] == "open loop, poisson"
    for row in rows(stand, "line@onnx.direct"):
        late_us = (row["sent_ns"] - row["scheduled_ns"]) / 1e3
        assert late_us >= 0  # never early
        assert row["response_us"] == pytest.approx(late_us + row["service_us"])


@pytest.mark.slow
def test_all_blocks_of_a_round_have_one_schedule_and_rounds_have_their_own(stand: Any) -> None:
    assert loadtest(stand).returncode == 0
    gaps = {
        (number, measurement): tuple(np.diff([row["scheduled_ns"] for row in due(stand, measurement, number)]))
        for number in (0, 1)
        for measurement in MEASUREMENTS
    }
    assert (
        len({gaps[0, measurement] for measurement in MEASUREMENTS})
        == len({gaps[1, measurement] for measurement in MEASUREMENTS})
        == 1
    )
    assert gaps[0, MEASUREMENTS[0]] != gaps[1, MEASUREMENTS[0]]


def due(stand: Any, measurement: str, number: int) -> list[dict[str, Any]]:
    measured = [row for row in rows(stand, measurement) if (row["round"], row["phase"]) == (number, "measure")]
    return sorted(measured, key=lambda row: row["scheduled_ns"])


@pytest.mark.slow
def test_the_requests_of_two_workers_are_those_of_one(stand: Any) -> None:
    gaps = []
    for processes in ("1", "2"):
        done = loadtest(stand, "--via=direct", "--rounds=1", f"--processes={processes}")
        assert (done.returncode, done.stderr) == (0, "")
        found = due(stand, "line@onnx.direct", 0)
        assert len(found) == 40
        gaps.append(np.diff([row["scheduled_ns"] for row in found]))
        assert run_json(stand)["complete"]
    # Each worker has its own offset between the wall clock and the monotonic one, microseconds apart.
    assert np.abs(gaps[0] - gaps[1]).max() < 1e6


@pytest.mark.slow
def test_a_closed_loop_is_labelled_so_and_has_no_schedule(stand: Any) -> None:
    done = loadtest(stand, "--via=direct", "--closed-loop", "--users=2", "--duration=2")
    assert done.returncode == 0
    assert "closed loop" in done.stdout
    assert run_json(stand)["load_model"] == "closed loop"
    found = rows(stand, "line@onnx.direct")
    assert len([row for row in found if row["phase"] == "measure"]) >= 2 * 36
    assert {(row["scheduled_ns"], row["response_us"]) for row in found} == {(None, None)}


@pytest.mark.slow
def test_the_manifest_names_the_paths_conditions_and_a_difference_refuses_before_any_load(stand: Any) -> None:
    assert loadtest(stand, "--allow=threads", "--allow=threads").returncode == 0
    facts = run_json(stand)
    assert facts["allowed"] == ["threads"]
    direct, gateway = (facts["fairness"]["paths"][f"line@onnx.{via}"] for via in ("direct", "gateway"))
    assert direct["weights_sha256"] == gateway["weights_sha256"]
    assert direct["engine"] == {"class": "subject", "value": "test engine"}
    assert direct["cpu_model"]["value"] == facts["host"]["cpu"]
    asked = len(stand.behaviour.models)

    models = [f"[models.{name}]\ndefault = 'onnx'\n[models.{name}.stacks.onnx]\n" for name in ("line", "curve")]
    (stand.folder / "deployments.toml").write_text("".join(models))
    write_reference(stand.folder / "exports", "curve", slope=3.0)
    done = loadtest(stand, "--via=direct")
    assert done.returncode == 1
    assert re.fullmatch(
        r"servepath loadtest: weights_sha256 must be equal and differs "
        r"\(\w+: line@onnx.direct; \w+: curve@onnx.direct\); "
        r"fix it, or declare it: --allow weights_sha256\n",
        done.stderr,
    )
    assert len(stand.behaviour.models) == asked + 2  # each was asked once whether it is there


@pytest.mark.slow
def test_two_precisions_are_compared_only_where_that_is_declared(stand: Any) -> None:
    stand.behaviour.gateway_precision = "tf32"
    done = loadtest(stand)
    assert done.returncode == 1
    assert done.stderr == (
        "servepath loadtest: precision must be equal and differs (fp32: line@onnx.direct; tf32: line@onnx.gateway); "
        "fix it, or declare it: --allow precision\n"
    )
    assert loadtest(stand, "--allow=precision").returncode == 0


def test_a_server_with_another_bias_is_caught_in_every_row(stand: Any) -> None:
    stand.behaviour.bias += 1.0
    assert loadtest(stand, "--via=direct").returncode == 0
    assert all(row["ok"] and row["wrong"] for row in rows(stand, "line@onnx.direct"))
    first = run_json(stand)["measurements"][0]
    assert (first["wrong_answers"] > 0, first["warmup_wrong_answers"]) == (True, first["warmup_requests"])


@pytest.mark.slow
def test_a_right_answer_from_another_path_is_wrong(stand: Any) -> None:
    stand.behaviour.stack = "tfserving"
    assert loadtest(stand, "--via=gateway").returncode == 0
    assert all(row["ok"] and row["wrong"] for row in rows(stand, "line@onnx.gateway"))


def test_a_refusal_is_recorded_with_its_code(stand: Any) -> None:
    stand.behaviour.code = grpc.StatusCode.RESOURCE_EXHAUSTED
    stand.behaviour.answered_first = 1  # the one before the load
    assert loadtest(stand, "--via=direct").returncode == 0
    found = rows(stand, "line@onnx.direct")
    assert {(row["ok"], row["code"], row["wrong"]) for row in found} == {(False, "RESOURCE_EXHAUSTED", False)}


@pytest.mark.parametrize(
    ("code", "via", "fix"),
    [
        ("NOT_FOUND", "direct", "that server does not have the model: export or import it, then: make down up"),
        ("NOT_FOUND", "gateway", "the gateway does not know the path: add it to its deployments.toml"),
        ("INTERNAL", "gateway", "the server's log says more (make logs); correct what it names"),
        ("UNAVAILABLE", "gateway", "a gRPC server is there: make status says what runs"),
    ],
)
def test_a_path_whose_first_call_is_refused_ends_the_run_before_it_starts(
    stand: Any, code: str, via: str, fix: str
) -> None:
    stand.behaviour.code = grpc.StatusCode[code]
    done = loadtest(stand, f"--via={via}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"servepath loadtest: line@onnx.{via} at {stand.address}: {code} (as told); {fix}")
    assert not (stand.folder / "results").exists()


@pytest.mark.slow
def test_a_server_that_is_not_there_ends_the_run_before_it_starts(stand: Any) -> None:
    done = loadtest(stand, "--via=gateway", f"--env-file={stand.folder / 'nothing'}")
    assert done.returncode == 1
    assert done.stderr == (
        "servepath loadtest: GATEWAY_ADDR is not set; set it in .env or in the environment "
        "(the defaults are in the repository's .env)\n"
    )
    (stand.folder / "env").write_text("".join(f"{name}=127.0.0.1:1\n" for name in ADDRESSES))
    done = loadtest(stand, "--via=gateway")
    assert done.returncode == 1
    assert done.stderr == "servepath loadtest: line@onnx.gateway at 127.0.0.1:1: UNAVAILABLE; run: make up\n"
    assert not (stand.folder / "results").exists()


@pytest.mark.slow
def test_a_server_that_speaks_no_grpc_ends_the_run_before_it_starts(stand: Any) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"127.0.0.1:{server.server_port}"
        (stand.folder / "env").write_text("".join(f"{name}={address}\n" for name in ADDRESSES))
        done = loadtest(stand, "--via=gateway")
        server.shutdown()
    assert done.returncode == 1
    said = "UNAVAILABLE; something answers there, but no gRPC server; correct the address"
    assert done.stderr.splitlines()[-1] == f"servepath loadtest: line@onnx.gateway at {address}: {said}"


@pytest.mark.slow
def test_rounds_go_on_until_the_wanted_difference_is_known_or_the_time_is_up(stand: Any) -> None:
    words = [*stand.arguments, *QUICK[:-1], "--difference=0.05", "--minutes=0.2", "--min-requests=60"]
    done = loadtest_with(*words)
    assert (done.returncode, done.stderr) == (0, "")
    facts = run_json(stand)
    assert facts["complete"]
    assert facts["sequential"]["ended"] in {"known", "time"}
    assert facts["sequential"]["looks"][-1]["rounds"] == facts["rounds"] == len(facts["measurements"]) / 3
    assert {measurement["requests"] for measurement in facts["measurements"]} == {20}
    assert f"{facts['rounds']} rounds, " in done.stdout
    assert "comparisons of p50 known to 5 %" in done.stdout


def looks(pid: int) -> bool:
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "look" in child.cmdline():
                return True
    return False


@pytest.mark.slow
def test_the_program_that_looks_is_started_before_the_warm_up(stand: Any) -> None:
    stand.behaviour.delay_s = 1.0  # so that the first warm-up still goes on when run.json is read
    command = [sys.executable, "-m", "loadtest", *stand.arguments, *QUICK[:-1], "--difference=0.05"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + LONG_S
        while not looks(run.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        facts = json.loads(next(stand.folder.glob("results/*/run.json")).read_text())
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=LONG_S)
    assert (run.returncode, facts["warmup"], facts["measurements"]) == (130, [], [])


@pytest.mark.slow
def test_ctrl_c_ends_a_run_that_goes_on_until_it_knows_and_the_program_that_looks(stand: Any) -> None:
    command = [sys.executable, "-m", "loadtest", *stand.arguments, *QUICK[:-1], "--difference=0.05"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + LONG_S
        while len(list(stand.folder.glob("results/latest/rows/r01-*"))) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=LONG_S)
    assert (run.returncode, errors) == (130, b"")
    assert b"marked incomplete" in output
    assert not run_json(stand)["complete"]
    assert left(stand) == []


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_keeps_the_blocks_that_ended_and_marks_the_run_incomplete(stand: Any, processes: int) -> None:
    command = [*endless(stand), f"--processes={processes}"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + LONG_S
        while len(list(stand.folder.glob("results/latest/rows/r01-*"))) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=LONG_S)
    assert (run.returncode, errors) == (130, b"")
    facts = run_json(stand)
    assert not facts["complete"]
    assert f"{len(facts['measurements']) // 2} whole rounds" in output.decode()
    assert {measurement["round"] for measurement in facts["measurements"]} >= {0, 1}
    files = {f"rows/{path.name}" for path in (stand.folder / "results/latest/rows").iterdir()}
    assert files == {measurement["rows"] for measurement in facts["measurements"]}
    assert left(stand) == []


@pytest.mark.slow
@pytest.mark.usefixtures("hangups_count")
def test_a_terminal_that_is_gone_ends_a_run_as_ctrl_c_does(stand: Any) -> None:
    command = [*endless(stand), "--processes=2"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + LONG_S
        while not list(stand.folder.glob("results/latest/rows/r01-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGHUP)
        output, errors = run.communicate(timeout=LONG_S)
    assert (run.returncode, errors) == (128 + signal.SIGHUP, b"")
    assert b"marked incomplete" not in output
    facts = run_json(stand)
    assert not facts["complete"]
    files = {f"rows/{path.name}" for path in (stand.folder / "results/latest/rows").iterdir()}
    assert files == {measurement["rows"] for measurement in facts["measurements"]}
    assert left(stand) == []


def endless(stand: Any) -> list[str]:
    return [sys.executable, "-m", "loadtest", *stand.arguments, *QUICK, "--rounds=500", "--via=direct"]


def left(stand: Any) -> list[psutil.Process]:
    """Return the load tests of this stand that still run."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(stand.folder) in word for word in process.info["cmdline"] or [])
    ]


@pytest.mark.slow
def test_a_worker_that_is_gone_ends_the_run_with_one_line(stand: Any) -> None:
    command = [*endless(stand), "--processes=2"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + LONG_S
        while not list(stand.folder.glob("results/latest/rows/r01-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        next(process for process in left(stand) if "--worker" in process.cmdline()).kill()
        _, errors = run.communicate(timeout=LONG_S)
    assert run.returncode == 1
    assert errors.decode().splitlines()[-1] == "servepath loadtest: a worker is lost, or sends no rows"
    assert not run_json(stand)["complete"]
    assert left(stand) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--closed-loop"], ["--processes=2"]])
def test_locust_drives_the_same_users_by_hand(stand: Any, words: list[str]) -> None:
    (stand.folder / ".env").write_text((stand.folder / "env").read_text())
    (stand.folder / "artifacts").mkdir()
    (stand.folder / "exports").rename(stand.folder / "artifacts/exports")
    locust = Path(sys.executable).parent / "locust"
    command = [str(locust), "-f", str(ROOT / "loadtest/locustfile.py"), "--headless", "-u2", "-r2", "-t15s", "--json"]
    done = subprocess.run(
        [*command, *words, "line@onnx.direct", "line@onnx.gateway"],
        check=False,
        cwd=stand.folder,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )
    assert done.returncode == 0, done.stderr
    entries = {
        entry["name"]: entry for entry in json.loads(done.stdout[done.stdout.index("[\n") :])
    }  # workers print "[]"
    assert set(entries) == {"line@onnx.direct", "line@onnx.gateway"}
    assert all(entry["num_requests"] > 0 and entry["num_failures"] == 0 for entry in entries.values())


@pytest.mark.slow
def test_two_servers_of_one_path_are_loaded_as_sides_in_the_same_rounds(stand: Any) -> None:
    for name in ("old", "new"):
        (stand.folder / f"{name}.env").write_text("")  # the same addresses: what differs is the name
    sides = [f"--side={name}={stand.folder / name}.env" for name in ("old", "new")]
    assert loadtest(stand, *sides, "--via=direct").stderr == ""
    facts = run_json(stand)
    assert facts["arguments"]["side"] == [f"{name}={stand.folder / name}.env" for name in ("old", "new")]
    assert sorted(found.get("side", "") for found in facts["expected"]) == ["", "new", "old"]
    assert {row["side"] for row in rows(stand, "line@onnx.direct~old")} == {"old"}
    assert {row["round"] for row in rows(stand, "line@onnx.direct~new")} == {0, 1}


@pytest.mark.slow
def test_one_side_alone_or_twice_the_same_is_refused(stand: Any) -> None:
    for sides in (["--side=a=x"], ["--side=a=x", "--side=a=y"]):
        done = loadtest(stand, *sides)
        assert done.returncode == 2
        assert "two or more" in done.stderr
