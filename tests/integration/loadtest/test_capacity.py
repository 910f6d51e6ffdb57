"""Capacity over real gRPC, in a short search: what is written, not how fast anything is."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from report import schema
from servepath.artifacts.commit import git_commit
from tests.integration.loadtest.test_run import ROOT, environment
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

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
        command(stand, *arguments),
        check=False,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )


def written(folder: Path) -> dict[str, Any]:
    """Read what the report would, which refuses what does not obey the schema."""
    return dict(schema.read(folder / "capacity.json", "capacity", missing="")["capacity"])


def assert_rows_are_kept(folder: Path, steps: Sequence[dict[str, Any]]) -> None:
    for number, step in enumerate(steps):
        table = parquet.read_table(folder / f"capacity/line@onnx.direct-{number:03d}.parquet").to_pylist()
        assert sum(row["phase"] == "measure" for row in table) == step["requests"]
        assert {row["run"] for row in table} == {"one"}


def test_wrong_answers_in_the_warm_up_leave_no_capacity_and_what_others_have_stays(stand: Any) -> None:
    folder, other = add_run(stand), {"model": "curve", "stack": "onnx", "via": "direct", "steps": []}
    other |= {"rate_rps": 9, "low_rps": 8, "high_rps": 10, "cores": 1}
    lost = other | {"stack": "tfserving", "artifact": "before"}
    served = {"curve@tfserving.direct": {"artifact": {"class": "subject", "value": "in the run"}}}
    (folder / "run.json").write_text(json.dumps({"fairness": {"paths": served}}))
    before = {"slo_p99_ms": 50, "git_commit": git_commit(), "paths": [other, lost]}
    (folder / "capacity.json").write_text(json.dumps({"capacity": before}))
    stand.behaviour.bias += 1.0
    done = capacity(stand, "--via=direct", "--slo-p99-ms=50", "--seconds=60", "--processes=2")
    assert (done.returncode, done.stderr) == (0, "")
    found = written(folder)
    kept, path = found["paths"]
    assert (found["complete"], kept) == (True, other)
    assert (path["model"], path["stack"], path["via"]) == ("line", "onnx", "direct")
    assert (path["rate_rps"], path["limit"], len(path["steps"])) == (None, "wrong answers", 0)
    assert path["cores"] > 0
    assert (path["engine"], path["engine_version"], path["artifact"]) == ("test engine", "1.5", "ab" * 32)
    assert done.stdout.count("incorrect responses, so no capacity") == 1
    assert (
        "no longer has curve@tfserving direct (default): the run loaded another engine" in done.stdout.splitlines()[0]
    )


def test_without_a_run_there_is_nothing_to_add_to(stand: Any) -> None:
    done = capacity(stand)
    assert (done.returncode, done.stderr) == (
        1,
        f"servepath capacity: {stand.folder / 'results'} is not a run; capacity is added to a run: make loadtest\n",
    )


def test_ctrl_c_keeps_the_steps_that_ended_and_marks_them_incomplete(stand: Any) -> None:
    folder = add_run(stand)
    words = command(stand, "--via=direct", "--slo-p99-ms=50")
    with subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        # Two tries, so that the second follows the first; a starved machine may have got to one only.
        for tries, wait_s in ((1, LONG_S), (2, 40)):
            deadline = time.monotonic() + wait_s
            while len(list(folder.glob("capacity/searching/*.parquet"))) < tries and time.monotonic() < deadline:
                time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=LONG_S)
    assert (run.returncode, errors) == (130, b"")
    assert b"marked incomplete" in output
    found = written(folder)
    assert not found["complete"]
    steps = found["paths"][0]["steps"]
    assert len(steps) >= 1
    assert steps[0]["rate_rps"] == 500
    assert_rows_are_kept(folder, steps)
    assert all(f"line@onnx direct {step['rate_rps']:,.0f} req/s" in output.decode() for step in steps)
