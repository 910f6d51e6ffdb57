"""The other instruments really load a server here, and what is read of them is what they say themselves."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from pyarrow import parquet

from loadtest import no_op
from loadtest.plan import NO_OP, Measurement, ServingPath
from servepath.results.names import INSTRUMENTS
from studies.loadgen.instruments import Job
from tests.integration.loadtest.conftest import BIAS, MODEL
from tests.integration.loadtest.test_run import ROOT, environment
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

QUICK = ["--rounds=5", "--seconds=0.1", "--min-requests=20", "--warmup=0.2", "--seed=7", "--via=direct"]
MEASUREMENTS = ("line@onnx.direct", "null@null.direct")
MEND = (
    "servepath crosscheck: h2load is not on PATH; install nghttp2's client, such as: apt-get install nghttp2-client\n"
)


def command(stand: Any, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "studies.loadgen", *stand.arguments, *QUICK, *arguments]


def crosscheck(stand: Any, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = environment() | variables
    return subprocess.run(
        command(stand), check=False, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=LONG_S
    )


def test_each_instrument_leaves_a_row_a_request_and_so_few_of_them_show_no_agreement(stand: Any) -> None:
    done = crosscheck(stand)
    if shutil.which("h2load") is None:
        assert (done.returncode, done.stderr) == (1, MEND)
        return
    assert (done.returncode, done.stderr) == (3, "")
    (folder,) = (stand.folder / "results").iterdir()
    facts = json.loads((folder / "crosscheck.json").read_text())
    assert facts["complete"]
    assert {measurement["instrument"] for measurement in facts["measurements"]} == set(INSTRUMENTS)
    assert len(facts["measurements"]) == 5 * len(INSTRUMENTS) * len(MEASUREMENTS)
    for measurement in facts["measurements"]:
        found = parquet.read_table(folder / measurement["rows"]).to_pylist()
        assert Counter(row["phase"] for row in found) == {"warmup": 30, "measure": 20}
        assert (measurement["requests"], measurement["errors"], measurement["wrong_answers"]) == (20, 0, 0)
        assert all(row["ok"] and 0 < row["service_us"] < 5e6 for row in found)
        scheduled = measurement["instrument"] != "h2load"
        assert all((row["response_us"] is not None) == (row["scheduled_ns"] is not None) == scheduled for row in found)
    summary = json.loads((folder / "summary.json").read_text())
    (way,) = summary["paths"]
    assert (summary["agrees"], way["model"], way["rounds"]) == (False, MODEL, 5)
    assert [one["agrees"] for one in way["agreements"] if "p99" in one["what"]] == [None]


def test_without_h2load_it_says_what_to_install(stand: Any) -> None:
    done = crosscheck(stand, PATH="/nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", MEND)


def loadgen(stand: Any, measurement: Measurement, address: str = "", count: int = 101) -> tuple[Any, Path]:
    """Load a measurement by LoadGen; return its rows, and the folder of its own logs."""
    folder = stand.folder / "scratch"
    folder.mkdir()
    job = Job(measurement, address, MODEL, 200.0, 0, count, 3, stand.folder / "exports", stand.folder / "env", folder)
    words = [sys.executable, "-m", "studies.loadgen.loadgen", job.to_json(), str(folder / "rows")]
    subprocess.run(words, check=True, cwd=ROOT, env=environment(), timeout=LONG_S)
    return parquet.read_table(folder / "rows"), folder


def test_the_rows_of_loadgen_have_the_percentiles_that_loadgen_gives_itself(stand: Any) -> None:
    with no_op.endpoint() as address:
        rows, folder = loadgen(stand, NO_OP, address)
    summary = (folder / "mlperf_log_summary.txt").read_text()
    theirs = dict(re.findall(r"^(Min|Max|50.00 percentile) latency \(ns\) +: (\d+)$", summary, re.MULTILINE))
    times_ns = np.array(rows["response_us"].to_pylist()) * 1e3
    ours = {"Min": times_ns.min(), "50.00 percentile": np.median(times_ns), "Max": times_ns.max()}
    assert {name: round(value) for name, value in ours.items()} == {name: int(text) for name, text in theirs.items()}
    assert all(rows["ok"].to_pylist())
    assert not any(rows["wrong"].to_pylist())


@pytest.mark.parametrize(
    ("bias", "code", "found"),
    [
        (BIAS, grpc.StatusCode.OK, {(True, False)}),
        (BIAS + 1, grpc.StatusCode.OK, {(True, True)}),
        (BIAS, grpc.StatusCode.RESOURCE_EXHAUSTED, {(False, False)}),
    ],
)
def test_what_loadgen_is_answered_is_checked(
    stand: Any, bias: float, code: grpc.StatusCode, found: set[tuple[bool, bool]]
) -> None:
    stand.behaviour.bias, stand.behaviour.code = bias, code
    rows, _ = loadgen(stand, Measurement(ServingPath(MODEL, "onnx"), "gateway"), count=20)
    assert set(zip(rows["ok"].to_pylist(), rows["wrong"].to_pylist(), strict=True)) == found


def test_ctrl_c_keeps_what_has_ended_and_marks_it_incomplete(stand: Any) -> None:
    if shutil.which("h2load") is None:
        assert crosscheck(stand).stderr == MEND
        return
    words = command(stand, "--rounds=1000")
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until_s = time.monotonic() + LONG_S
        while not list((stand.folder).glob("results/*/rows/*.parquet")) and time.monotonic() < until_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, errors) == (130, b"")
    assert b"interrupted; " in printed
    (folder,) = (stand.folder / "results").iterdir()
    facts = json.loads((folder / "crosscheck.json").read_text())
    assert not facts["complete"]
    assert {measurement["rows"] for measurement in facts["measurements"]} <= {
        f"rows/{file.name}" for file in (folder / "rows").iterdir()
    }
