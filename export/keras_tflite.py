"""Keras -> TFLite by TensorFlow's converter, from the SavedModel that Keras writes."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from export import saved_model
from export.tflite_file import convert, load
from export.trained import Trained
from servepath.artifacts.manifest import hash_files as contents

__all__ = ["contents", "load", "write"]


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write model.tflite."""
    with tempfile.TemporaryDirectory() as between:
        saved_model.write_signature(trained, Path(between))
        return convert(Path(between), folder)
