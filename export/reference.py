"""The ground truth as an artifact: seeded inputs and their float64 answers, to check a server's answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from export.parity import ROWS, Predict, seeded_inputs
from export.trained import Trained
from models.registry import Arrays
from servepath.artifacts.manifest import hash_files as contents
from servepath.artifacts.reference import FILE

__all__ = ["contents", "load", "write"]


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write one tensor per input and one per output; row i of the outputs answers row i of the inputs."""
    inputs = seeded_inputs(trained.spec)
    tensors = {name: np.ascontiguousarray(rows) for name, rows in {**inputs, **trained.reference(inputs)}.items()}
    (folder / FILE).write_bytes(safetensors.numpy.save(tensors))
    return {}


def load(folder: Path) -> Predict:
    """Return a function that looks its answers up in the file; rows that are not in it raise KeyError."""
    tensors = safetensors.numpy.load((folder / FILE).read_bytes())
    places: dict[bytes, int] = {}

    def predict(inputs: Arrays) -> Arrays:
        if not places:
            places.update({_key(tensors, inputs, row): row for row in range(ROWS)})
        rows = [places[_key(inputs, inputs, row)] for row in range(len(next(iter(inputs.values()))))]
        return {name: values[rows] for name, values in tensors.items() if name not in inputs}

    return predict


def _key(tensors: Arrays, names: Arrays, row: int) -> bytes:
    return b"".join(tensors[name][row].tobytes() for name in sorted(names))
