"""Capacity over real gRPC, in a short search: what is written, not how fast anything is."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pyarrow import parquet

from report import schema
from tests.integration.loadtest.test_run import ROOT, environment

COMMAND = [sys.executable, "-m", "loadtest.capacity", "--paths=line@onnx", "--seed=7"]


def command(stand: Any, *arguments: str) -> list[str]:
    places = [word for word in stand.arguments if not word.startswith("--out")]
    return [*COMMAND, *places, f"--run={stand.folder / 'results'}", *arguments]


def add_run(stand: Any) -> Path:
    """Make what there is of a run that matters here."""
    folder = Path(stand.folder / "results/one")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder.parent / "latest").symlink_to("one")
    return folder


def capacity(stand: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(stand, *arguments), check=False, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=90
    )


def written(folder: Path) -> dict[str, Any]:
    """Read what the report would, which refuses what does not obey the schema."""
    return dict(schema.read(folder / "capacity.json", "capacity", missing="")["capacity"])


def test_a_search_adds_its_steps_and_their_rows_to_the_newest_run(stand: Any) -> None:
    folder = add_run(stand)
    (folder / "capacity.json").write_text(json.dumps({"capacity": {"slo_p99_ms": 50, "paths": [other_path()]}}))
    done = capacity(stand, "--via=direct", "--slo-p99-ms=50", "--seconds=16")
    assert (done.returncode, done.stderr) == (0, "")
    found = written(folder)
    assert found["complete"]
    kept, path = found["paths"]
    assert kept == other_path()  # of another search with the same objective
    assert (path["model"], path["stack"], path["via"]) == ("line", "onnx", "direct")
    assert path["cores"] > 0
    assert path["steps"][0]["rate_rps"] == 500
    for number, step in enumerate(path["steps"]):
        table = parquet.read_table(folder / f"capacity/line@onnx.direct-{number:03d}.parquet").to_pylist()
        assert sum(row["phase"] == "measure" for row in table) == step["requests"]
        assert {row["run"] for row in table} == {"one"}
        assert f"line@onnx direct {step['rate_rps']:,.0f} req/s" in done.stdout


def other_path() -> dict[str, Any]:
    rates = {"rate_rps": 9, "low_rps": 8, "high_rps": 10, "cores": 1, "steps": []}
    return {"model": "curve", "stack": "onnx", "via": "direct"} | rates


def test_wrong_answers_have_no_capacity(stand: Any) -> None:
    folder = add_run(stand)
    stand.behaviour.bias += 1.0
    done = capacity(stand, "--via=direct", "--seconds=60", "--processes=2")
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = written(folder)["paths"]
    assert (path["rate_rps"], path["limit"], len(path["steps"])) == (None, "wrong answers", 1)
    assert "wrong answers, so no capacity" in done.stdout


def test_without_a_run_there_is_nothing_to_add_to(stand: Any) -> None:
    done = capacity(stand)
    assert (done.returncode, done.stderr) == (
        1,
        f"capacity: {stand.folder / 'results'} is no run, and capacity is added to one; run: make loadtest\n",
    )


def test_ctrl_c_keeps_the_steps_that_ended_and_marks_them_incomplete(stand: Any) -> None:
    folder = add_run(stand)
    words = command(stand, "--via=direct", "--slo-p99-ms=50")
    with subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + 30
        while not list(folder.glob("capacity/*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=15)
    assert (run.returncode, errors) == (130, b"")
    assert b"marked incomplete" in output
    found = written(folder)
    assert not found["complete"]
    assert len(found["paths"][0]["steps"]) >= 1
