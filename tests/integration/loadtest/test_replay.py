"""Requests from a file, sent to a real onnx_svc; and to a server that errs, where answers are to agree."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from safetensors.numpy import save_file

from servepath.artifacts.manifest import artifact_folder
from services.oip_server.server import create_server
from services.onnx_svc.config import SERVICE, Settings
from services.onnx_svc.ort import OrtEngine
from tests.integration.loadtest.test_run import ADDRESSES, ROOT, loadtest, rows, run_json
from tests.limits import LONG_S
from tests.loop_thread import LoopThread
from tests.manifests import write_manifest
from tests.tiny_onnx import linear, make_export

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = X @ np.array([[1.0], [2.0]]) + 0.5


class Served(NamedTuple):
    """A real onnx_svc with one model, y = x0 + 2 x1 + 0.5, and the load test's arguments for it."""

    folder: Path
    arguments: list[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    exports, reference = folder / "exports", artifact_folder(folder / "exports", "line", "reference", 1)
    make_export(exports, "line", 1, content=linear(0.5))
    reference.mkdir(parents=True)
    save_file({"x": X, "y": Y}, reference / "reference.safetensors")
    write_manifest(reference, "line", "reference", 1)
    loop = LoopThread()
    server = loop.run(
        create_server(SERVICE, Settings(exports, port=0, metrics_port=0), partial(OrtEngine, device="cpu"))
    )
    (folder / "env").write_text("".join(f"{name}=127.0.0.1:{server.port}\n" for name in ADDRESSES))
    (folder / "deployments.toml").write_text("[models.line]\ndefault = 'onnx'\n[models.line.stacks.onnx]\n")
    places = {"env-file": "env", "deployments": "deployments.toml", "exports": "exports", "out": "results"}
    yield Served(folder, [f"--{name}={folder / place}" for name, place in places.items()] + ["--via=direct"])
    loop.start(server.close()).result(LONG_S)
    loop.close()


def test_an_npz_with_outputs_is_replayed_and_checked_against_them(served: Served) -> None:
    path = served.folder / "mine.npz"
    np.savez(path, x=X, y=Y)
    assert loadtest(served, f"--payloads={path}").returncode == 0
    found = rows(served, "line@onnx.direct")
    assert all(row["ok"] and not row["wrong"] for row in found)
    assert len({row["request_bytes"] for row in found}) == 1
    assert all(row["reply_bytes"] > 0 for row in found)
    payloads = run_json(served)["payloads"]
    assert (payloads["file"], len(payloads["sha256"])) == ("mine.npz", 64)
    assert payloads["models"]["line"] == {
        "expected": "the outputs in the file",
        "requests": 6,
        "shapes": [{"inputs": {"x": [1, 2]}, "requests": 6}],
        "more_shapes": 0,
    }


def test_rows_that_are_not_sent_are_said_once_by_who_leads(served: Served) -> None:
    path = served.folder / "many.npz"
    np.savez(path, x=X, y=Y)
    done = loadtest(served, f"--payloads={path}", "--rows=4", "--rounds=1", "--processes=2")
    assert (done.returncode, done.stderr) == (0, "")
    said = f"{path}: 2 of 6 rows are not sent to line: they do not fill a request of --rows 4"
    assert done.stdout.splitlines().count(said) == 1


def test_a_wrong_output_in_the_file_makes_its_answers_wrong(served: Served) -> None:
    path = served.folder / "wrong.npz"
    np.savez(path, x=X, y=Y + np.eye(6, 1))
    assert loadtest(served, f"--payloads={path}").returncode == 0
    found = rows(served, "line@onnx.direct")
    assert 0 < sum(row["wrong"] for row in found) < len(found)


def test_lines_without_outputs_are_held_to_the_first_answers_and_reported_by_size(served: Served) -> None:
    path = served.folder / "mine.jsonl"
    path.write_text('{"x": [[1, 2]]}\n{"x": [[1, 2], [3, 4], [5, 6]]}\n')
    assert loadtest(served, f"--payloads={path}", "--processes=2", "--rounds=1").returncode == 0
    found = rows(served, "line@onnx.direct")
    assert all(row["ok"] and not row["wrong"] for row in found)
    assert {row["rows"] for row in found} == {1, 3}
    assert run_json(served)["payloads"]["models"]["line"]["expected"] == "answers of line@onnx.direct"
    folder = served.folder / "results/latest"
    report = [sys.executable, "-m", "report", str(folder)]
    done = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert "before the load, within twice the model's tolerance" in done.stdout
    (row,) = json.loads((folder / "summary.json").read_text())["paths"]
    small, large = row["size_classes"]
    assert large["smallest_bytes"] - small["smallest_bytes"] >= 2 * 8
    assert row["request_bytes"]["largest"] == large["largest_bytes"]


def test_a_line_that_does_not_fit_ends_the_run_before_it_starts(served: Served) -> None:
    path = served.folder / "bad.jsonl"
    path.write_text('{"x": [[1, 2]]}\n{"x": [[1, 2, 3]]}\n')
    done = loadtest(served, f"--payloads={path}", f"--out={served.folder / 'none'}")
    said = "input 'x': shape [1, 3], expected [-1, 2]; it must fit the model line"
    assert (done.returncode, done.stderr) == (1, f"servepath loadtest: {path}, line 2: {said}\n")
    assert not (served.folder / "none").exists()


# The answer is 1.25, and the tolerance 1e-5 + 1e-5 * 1.25: two right answers are at most 4.5e-5 apart.
@pytest.mark.parametrize(("apart", "wrong"), [(3.5e-5, False), (6e-5, True)])
def test_a_path_that_does_not_agree_with_the_first_is_wrong(stand: Any, apart: float, wrong: bool) -> None:  # noqa: FBT001 - a column of the table above
    path = stand.folder / "mine.jsonl"
    path.write_text('{"x": [[1, 2]]}\n')
    stand.behaviour.gateway_bias = apart
    assert loadtest(stand, f"--payloads={path}", "--rounds=1").returncode == 0
    assert {row["wrong"] for row in rows(stand, "line@onnx.direct")} == {False}
    assert {row["wrong"] for row in rows(stand, "line@onnx.gateway")} == {wrong}


def test_a_first_path_without_an_answer_is_named(stand: Any) -> None:
    path = stand.folder / "mine.jsonl"
    path.write_text('{"x": [[1, 2]]}\n')
    stand.behaviour.code = grpc.StatusCode.RESOURCE_EXHAUSTED
    stand.behaviour.answered_first = 1  # the one that asks whether it is there
    done = loadtest(stand, f"--payloads={path}")
    said = "line@onnx.direct gave no answer that others could be held to: RESOURCE_EXHAUSTED as told"
    assert (done.returncode, done.stderr) == (1, f"servepath loadtest: request 1 of --payloads: {said}\n")
