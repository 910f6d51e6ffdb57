"""What the load test writes now is what the report reads now; whether this machine is quiet enough is not asked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from report import schema
from report.rows import read_run
from report.summary import build
from tests.integration.loadtest.test_run import ROOT, environment
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

LOAD = ["--duration=0.1", "--warmup=0.2", "--rate=500", "--min-requests=340", "--seed=7", "--rounds=3"]
# The reasons against a run that a busy machine may give.
BUSY = ("more than 1 ms late", "of a core", "left the measuring clock")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=LONG_S
    )


def loaded(stand: Any, *arguments: str) -> Path:
    done = run("loadtest", *stand.arguments, *LOAD, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return Path(stand.folder / "results/latest")


def not_for_a_busy_machine(reasons: tuple[str, ...]) -> list[str]:
    return [reason for reason in reasons if not any(busy in reason for busy in BUSY)]


@pytest.mark.parametrize("arguments", [(), ("--closed-loop", "--rate=100")], ids=["open loop", "closed loop"])
def test_a_fresh_run_is_read_summarised_and_obeys_the_schemas(stand: Any, arguments: tuple[str, ...]) -> None:
    folder = loaded(stand, *arguments)
    summary = build(folder)
    assert not_for_a_busy_machine(summary.reasons) == []
    assert [(str(row.name), row.rounds) for row in summary.rows] == [("line@onnx direct", 3), ("line@onnx gateway", 3)]
    assert all(row.requests >= 3 * 340 and row.p99_ms is not None for row in summary.rows)
    assert summary.no_op is not None
    assert (summary.rows[0].response_p99_ms is None) == (arguments != ())
    for path in (folder / "rows").glob("*.parquet"):
        for row in parquet.read_table(path).to_pylist()[:20]:
            schema.validator("row").validate(row)

    done = run("report", str(folder))
    assert done.stderr == ""
    schema.validator("summary").validate(json.loads((folder / "summary.json").read_text()))


def test_a_wrong_server_is_named_and_has_no_latency(stand: Any) -> None:
    stand.behaviour.bias += 1
    folder = loaded(stand)
    summary = build(folder)
    assert sum("responses are incorrect" in reason for reason in summary.reasons) >= 2
    assert [row.p50_ms for row in summary.rows] == [None, None]
    assert summary.no_op is not None
    assert summary.no_op.p50_ms is not None
    assert run("report", str(folder)).returncode == 1


def test_run_json_names_each_block_file_that_is_there(stand: Any) -> None:
    found = read_run(loaded(stand))
    files = {path.relative_to(found.folder.resolve()).as_posix() for path in found.folder.resolve().glob("rows/*")}
    assert {measurement["rows"] for measurement in found.facts["measurements"]} == files
