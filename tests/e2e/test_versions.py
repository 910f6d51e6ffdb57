"""Versions by label in front of real servers, two of each exported: who has both, and what those say who have one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from servepath.client import Client, PredictError
from tests.e2e.real_stack import RealStack
from tests.limits import LONG_S

pytestmark = pytest.mark.slow

# tests/planted.py: answers are x @ [2, -3] + a bias, here ten times the version.
MODELS = {"simple_nn": ("onnx", "torchserve"), "keras_dense": ("onnx", "tfserving")}
LABELS = "stable = 1\ncanary = 2\n"
X, WITHOUT_BIAS = [[3.0, 1.0]], 3.0


class Versioned(RealStack):
    """The servers of MODELS and a gateway."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder, deployments())
        del self._commands["litert_svc"]


def deployments() -> str:
    tables = []
    for model, stacks in MODELS.items():
        tables += [f'[models.{model}]\ndefault = "onnx"\n[models.{model}.version_labels]\n{LABELS}']
        tables += [f"[models.{model}.stacks.{stack}]" for stack in stacks]
    return "\n".join(tables)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("versions")
    paths = [f"{model}@{stack}" for model, stacks in MODELS.items() for stack in stacks]
    for version in (1, 2):
        biases = dict.fromkeys(paths, 10.0 * version)
        planted = f"plant(Path({str(folder)!r}), {biases}, {version})"
        code = f"from pathlib import Path; from tests.planted import plant; {planted}"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG_S)
    stack = Versioned(folder)
    try:
        stack.start_all()
        with Client(stack.gateway) as client:
            yield client
    finally:
        stack.stop_all()


@pytest.mark.parametrize("model", MODELS)
def test_onnx_svc_answers_by_every_version(client: Client, model: str) -> None:
    for label, version in {"stable": 1, "canary": 2}.items():
        prediction = client.predict(f"{model}@onnx", X, version=label, timeout_s=LONG_S)
        assert prediction.served.version == version
        np.testing.assert_allclose(prediction.output, [[WITHOUT_BIAS + 10 * version]])


@pytest.mark.parametrize(
    ("path", "which"),
    [("simple_nn@torchserve", "the one that was current when it started"), ("keras_dense@tfserving", "the newest one")],
)
def test_a_server_of_one_version_answers_by_that_and_names_the_stacks_that_have_the_other(
    client: Client, path: str, which: str
) -> None:
    assert client.predict(path, X, version="canary", timeout_s=LONG_S).served.version == 2
    with pytest.raises(PredictError) as refused:
        client.predict(path, X, version="stable", timeout_s=LONG_S)
    assert refused.value.reason == "MODEL_LOADING"
    stack = path.partition("@")[2]
    said = (
        f"{stack} has not loaded version 1: it serves one version at a time, {which}; a stack that serves several: onnx"
    )
    assert said in str(refused.value)
