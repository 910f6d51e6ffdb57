"""Clients nobody here wrote, tritonclient and @grpc/grpc-js: they get answers from real servers, and clear errors."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.real_stack import RealStack
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

PATHS = ("simple_nn@torchserve", "simple_nn@onnx", "keras_dense@tfserving", "keras_dense@onnx")
NAMES = (*PATHS, "simple_nn", "keras_dense")
DEFAULTS = {"simple_nn": "simple_nn@torchserve", "keras_dense": "keras_dense@tfserving"}
PYTHON = Path(".venv-interop/bin/python")
GRPC_JS = Path("tests/interop/grpc_js").absolute()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStack]:
    """Yield real servers that serve equivalent models."""
    folder = tmp_path_factory.mktemp("twins")
    twins = dict.fromkeys(PATHS, 0.5)
    code = (
        f"from pathlib import Path; from tests.planted import plant; plant(Path({str(folder / 'exports')!r}), {twins})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)
    stack = RealStack(folder / "exports", folder)
    try:
        stack.start_all()
        yield stack
    finally:
        stack.stop_all()


@pytest.fixture(scope="module")
def seen(stack: RealStack) -> dict[str, Any]:
    """Return what tritonclient saw."""
    return json_of([PYTHON, "tests/interop/triton.py", stack.gateway, *NAMES])


@pytest.fixture(scope="module")
def grpc_js() -> Path:
    """Return a folder with calls.js and the packages of package-lock.json, which stays for the next time."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("@grpc/grpc-js needs node and npm on PATH")
    lock = hashlib.sha256((GRPC_JS / "package-lock.json").read_bytes()).hexdigest()
    kept = Path(tempfile.gettempdir()) / f"servepath-grpc-js-{lock[:16]}"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = shutil.copytree(GRPC_JS, Path(folder) / "grpc_js")
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=made, check=False, capture_output=True, text=True, timeout=LONG_S)
            if any(code in done.stderr for code in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")):
                pytest.skip("@grpc/grpc-js needs the npm registry, which cannot be reached from here")
            assert done.returncode == 0, done.stderr
            made.rename(kept)
    shutil.copy(GRPC_JS / "calls.js", kept)
    return kept


@pytest.fixture(scope="module")
def seen_by_js(grpc_js: Path, stack: RealStack) -> dict[str, Any]:
    """Return what @grpc/grpc-js saw."""
    return json_of(["node", grpc_js / "calls.js", stack.gateway, "simple_nn@onnx", Path("proto").absolute()])


def json_of(command: list[str | Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=LONG_S).stdout)
    return found


def test_it_finds_the_server_live_and_every_path_ready(seen: dict[str, Any]) -> None:
    assert (seen["live"], seen["ready"], seen["models_ready"]) == (True, True, [True] * len(NAMES))
    assert seen["server"]["name"] == "servepath gateway"


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_every_paths_tensors(seen: dict[str, Any], name: str) -> None:
    metadata = seen["metadata"][name]
    assert metadata["name"] == name
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["-1", "1"]}]


@pytest.mark.parametrize("name", NAMES)
def test_every_path_gives_it_the_same_answer_and_says_who_gave_it(seen: dict[str, Any], name: str) -> None:
    answer = seen["answers"][name]
    assert answer["rows"] == [[pytest.approx(-3.5, rel=1e-5)], [pytest.approx(-5.5, rel=1e-5)]]
    assert (answer["id"], answer["version"]) == ("interop", "1")
    assert answer["parameters"]["stack"] == (name if "@" in name else DEFAULTS[name]).partition("@")[2]
    assert {"engine", "engine_version", "sha256", "sha256_source", "gateway_us", "backend_us"} <= answer[
        "parameters"
    ].keys()


@pytest.mark.parametrize(
    ("case", "status"),
    [
        ("unknown model", "StatusCode.NOT_FOUND"),
        ("unknown path", "StatusCode.NOT_FOUND"),
        ("unknown version", "StatusCode.NOT_FOUND"),
        ("unknown model's metadata", "StatusCode.NOT_FOUND"),
        ("unknown model's readiness", "StatusCode.NOT_FOUND"),
        ("wrong shape", "StatusCode.INVALID_ARGUMENT"),
        ("wrong rank", "StatusCode.INVALID_ARGUMENT"),
        ("wrong dtype", "StatusCode.INVALID_ARGUMENT"),
        ("wrong input name", "StatusCode.INVALID_ARGUMENT"),
        ("wrong name syntax", "StatusCode.INVALID_ARGUMENT"),
        ("unknown version label", "StatusCode.NOT_FOUND"),
        ("wrong version syntax", "StatusCode.INVALID_ARGUMENT"),
        ("nothing wrong", "OK"),
    ],
)
def test_it_is_refused_with_the_right_status(seen: dict[str, Any], case: str, status: str) -> None:
    assert seen["refusals"][case] == status


def test_grpc_js_gets_a_prediction(seen_by_js: dict[str, Any]) -> None:
    predicted = seen_by_js["predict"]
    assert (predicted["code"], predicted["reply"]["requestId"]) == (0, "interop")
    assert predicted["reply"]["outputs"][0]["shape"] == [2, 1]
    assert predicted["reply"]["served"]["stack"] == "onnx"
    assert predicted["initial"] == ["content-type"]


def test_grpc_js_s_metadata_are_taken(seen_by_js: dict[str, Any]) -> None:
    assert (seen_by_js["metadata"]["code"], seen_by_js["metadata"]["details"]) == (0, "")


def test_grpc_js_sends_600_kb_and_gets_a_row_for_each(seen_by_js: dict[str, Any]) -> None:
    assert seen_by_js["large"] == {"code": 0, "details": "", "shape": [75_000, 1]}


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        ("unknown", 5, "no model or path 'nobody'"),
        ("wrong", 3, "input"),
        ("expired", 4, "deadline"),
    ],
)
def test_grpc_js_reads_an_error_that_comes_in_trailers_alone(
    seen_by_js: dict[str, Any], case: str, code: int, text: str
) -> None:
    seen = seen_by_js[case]
    assert (seen["code"], seen["statusCode"], seen["initial"]) == (code, code, None)
    assert text in seen["details"]
    assert seen["binary"] == [True]  # google.rpc.Status, as bytes


@pytest.mark.parametrize(("case", "code"), [("overdue", 4), ("cancelled", 1)])
def test_grpc_js_gives_calls_up_and_goes_on(seen_by_js: dict[str, Any], case: str, code: int) -> None:
    assert seen_by_js[case]["code"] == code
    assert seen_by_js["many"] == [0] * 200
