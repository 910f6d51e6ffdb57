"""Keras -> ONNX by Keras' own export, which calls tf2onnx."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx

from export.keras_model import read_by_name
from export.onnx_file import Names, load, save
from export.trained import Trained
from servepath.artifacts.manifest import hash_files as contents

__all__ = ["contents", "load", "write"]


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write model.onnx."""
    with tempfile.TemporaryDirectory() as raw, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*np.object.*", category=FutureWarning)  # Keras' patch of tf2onnx
        path = Path(raw, "model.onnx")
        model = read_by_name(trained)
        model(model.inputs)  # Keras exports only what has been called
        model.export(path, format="onnx", verbose=False)
        found = onnx.load(path)
    # The names are the spec's already; only Keras' and tf2onnx's order is their own.
    names = Names(*([value.name for value in values] for values in (found.graph.input, found.graph.output)))
    return save(found, trained.spec, names, folder)
