"""The reference artifact: seeded inputs and their float64 answers, to check a server's answers.

The one module of this package that needs numpy and safetensors: the gateway does without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from servepath.artifacts.manifest import ArtifactError, artifact_folder, current_version, verify
from servepath.artifacts.spec import Spec

FORMAT = "reference"
FILE = "reference.safetensors"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's contract and rows to predict: arrays by tensor name; row i of the inputs gives row i of the outputs."""

    model: str
    version: int
    spec: Spec
    arrays: Mapping[str, npt.NDArray[Any]]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.arrays[self.spec.inputs[0].name])


def read_reference(exports: Path, model: str) -> Reference:
    """Read the current reference of a model after checking its hashes. Raises ArtifactError."""
    version = current_version(exports, model)
    folder = artifact_folder(exports, model, FORMAT, version)
    spec = verify(folder).spec
    arrays: dict[str, npt.NDArray[np.generic]] = load_file(folder / FILE)
    for tensor in spec.inputs + spec.outputs:
        if tensor.name not in arrays:
            raise ArtifactError(f"{folder / FILE} has no tensor {tensor.name!r}; remove {folder} and run: make export")
    return Reference(model, version, spec, arrays)
