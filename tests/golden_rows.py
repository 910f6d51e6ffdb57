"""Golden rows of a model that answers y = x0 + 2 x1 + bias, in two groups."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from servepath.artifacts.manifest import artifact_folder
from servepath.artifacts.reference import FILE, FORMAT
from tests.manifests import write_manifest

X = np.linspace(-3, 3, 10, dtype=np.float32).reshape(5, 2)
WEIGHTS = np.array([[1.0], [2.0]])


def make_reference(exports: Path, model: str, version: int = 1, *, bias: float = 0.0) -> Path:
    """Write EXPORTS/MODEL/reference/VERSION and return the file of the rows."""
    folder = artifact_folder(exports, model, FORMAT, version)
    folder.mkdir(parents=True)
    y = X.astype(np.float64) @ WEIGHTS + bias
    (folder / FILE).write_bytes(safetensors.numpy.save({"x": X, "y": y, "x#1": X[:3], "y#1": y[:3]}))
    write_manifest(folder, model, FORMAT, version)
    return folder / FILE
