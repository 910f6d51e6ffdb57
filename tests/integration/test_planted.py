from pathlib import Path

import numpy as np
import pytest

from export import onnx_file
from servepath.artifacts.manifest import artifact_folder, current_version, verify
from tests.planted import answer, plant

pytestmark = pytest.mark.slow

X = np.array([[1, 2], [0.5, -4]], np.float32)


def test_planted_paths_answer_with_their_own_bias(tmp_path: Path) -> None:
    biases = {"simple_nn@torchserve": 1.0, "simple_nn@onnx": 2.0, "keras_dense@tfserving": 3.0, "keras_dense@onnx": 4.0}
    plant(tmp_path, biases)
    plant(tmp_path, {"simple_nn@onnx": 12.0}, version=2)
    for model, version, bias in (("simple_nn", 1, 2.0), ("simple_nn", 2, 12.0), ("keras_dense", 1, 4.0)):
        folder = artifact_folder(tmp_path, model, "onnx", version)
        verify(folder)
        np.testing.assert_allclose(onnx_file.load(folder)({"x": X})["y"], answer(X, bias), rtol=1e-5)
    assert current_version(tmp_path, "simple_nn") == 2
    assert current_version(tmp_path, "keras_dense") == 1
