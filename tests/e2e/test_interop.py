"""tritonclient finds every path, gets equal answers from equivalent models, and clear errors."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.real_stack import RealStack
from tests.limits import LONG_S

PATHS = ("simple_nn@torchserve", "simple_nn@onnx", "keras_dense@tfserving", "keras_dense@onnx")
NAMES = (*PATHS, "simple_nn", "keras_dense")
DEFAULTS = {"simple_nn": "simple_nn@torchserve", "keras_dense": "keras_dense@tfserving"}
PYTHON = Path(".venv-interop/bin/python")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Yield what tritonclient saw on real servers that serve equivalent models."""
    folder = tmp_path_factory.mktemp("twins")
    twins = dict.fromkeys(PATHS, 0.5)
    code = (
        f"from pathlib import Path; from tests.planted import plant; plant(Path({str(folder / 'exports')!r}), {twins})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)
    stack = RealStack(folder / "exports", folder)
    try:
        stack.start_all()
        command = [PYTHON, "tests/interop/triton.py", stack.gateway, *NAMES]
        output = subprocess.run(command, check=True, capture_output=True, timeout=LONG_S).stdout
        yield json.loads(output)
    finally:
        stack.stop_all()


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
        ("wrong version syntax", "StatusCode.INVALID_ARGUMENT"),
        ("nothing wrong", "OK"),
    ],
)
def test_it_is_refused_with_the_right_status(seen: dict[str, Any], case: str, status: str) -> None:
    assert seen["refusals"][case] == status
