"""What export really writes, from both frameworks, served."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from servepath.protocols.types import Request, Tensor
from services.oip_server.server import OipServer
from tests.oip_client import Client
from tests.planted import KERNEL, plant

pytestmark = pytest.mark.slow

BIASES = {"simple_nn@onnx": 1.0, "keras_dense@onnx": 2.0}


@pytest.fixture(scope="module")
def shared_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exports = tmp_path_factory.mktemp("exports")
    plant(exports, BIASES)
    return exports


@pytest.mark.parametrize("path", list(BIASES))
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1000])
def test_exported_models_answer_within_their_tolerance(client: Client, path: str, rows: int) -> None:
    x = np.random.default_rng(rows).uniform(-10, 10, (rows, 2)).astype("<f4")
    answer = client.infer(Request(path, 0, (Tensor("x", "FP32", (rows, 2), x.tobytes()),)))
    y = np.frombuffer(answer.outputs[0].data, "<f4").reshape(rows, 1)
    np.testing.assert_allclose(y, x.astype(float) @ KERNEL + BIASES[path], rtol=1e-5, atol=1e-5)


def test_both_are_served_under_the_names_of_their_spec(
    shared_server: OipServer, connect: Callable[[OipServer], Client]
) -> None:
    client = connect(shared_server)
    for path in BIASES:
        (y,) = client.infer(Request(path.partition("@")[0], 1, (Tensor("x", "FP32", (1, 2), bytes(8)),))).outputs
        assert (y.name, y.dtype, y.shape) == ("y", "FP32", (1, 1))
