"""Artifacts whose answers tell the paths apart: every path answers x @ KERNEL + its own bias.

`plant(exports, {"simple_nn@onnx": 1.0, "keras_dense@tfserving": 2.0})` writes real artifacts with true manifests.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from export import stage, trained
from models import frameworks
from models.registry import read_models

KERNEL = np.array([[2.0], [-3.0]], np.float32)
FORMAT_OF = {"torchserve": "mar", "tfserving": "saved_model", "onnx": "onnx"}


def plant(exports: Path, biases: Mapping[str, float], version: int = 1) -> None:
    """Write one artifact per path ("simple_nn@onnx") at the version, and make the version current."""
    with tempfile.TemporaryDirectory() as models:
        for path, bias in biases.items():
            name, stack = path.split("@")
            plant_weights(Path(models, path), name, bias)
            stage.export_format(trained.read(Path(models, path), name), FORMAT_OF[stack], exports, version)
    for name in {path.split("@")[0] for path in biases}:
        stage.make_current(exports, name, version)


def plant_weights(models: Path, name: str, bias: float) -> None:
    """Write MODELS/NAME as training would leave it, with weights that answer x @ KERNEL + bias."""
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(read_models()[name].spec.to_dict()))
    _WRITERS[read_models()[name].framework](name, folder / read_models()[name].weights, np.array([bias], np.float32))


def answer(x: NDArray[np.float32], bias: float) -> NDArray[np.float64]:
    """Return what a planted path answers to x [rows, 2]: [rows, 1] in float64."""
    return x.astype(np.float64) @ KERNEL.astype(np.float64) + bias


def _write_torch(_: str, path: Path, bias: NDArray[np.float32]) -> None:
    tensors = {"linear.weight": np.ascontiguousarray(KERNEL.T), "linear.bias": bias}
    path.write_bytes(safetensors.numpy.save(tensors))


def _write_keras(name: str, path: Path, bias: NDArray[np.float32]) -> None:
    frameworks.tensorflow()
    model = read_models()[name].build()
    model.set_weights([KERNEL, bias])
    model.save(path)


# By framework; a model with other weights than one kernel and one bias needs a writer of its own.
_WRITERS = {"torch": _write_torch, "keras": _write_keras}
