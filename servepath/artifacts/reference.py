"""The reference artifact: inputs and the answers that they must get, to check a server's answers.

A group is inputs of one shape, apart from the batch axis: tensors of the names in the spec, and of the second and any
further group of NAME#1, NAME#2 and so on.

The one module of this package that needs numpy and safetensors (tflite.py needs LiteRT): the gateway does without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from servepath.artifacts.manifest import AGAIN, ArtifactError, artifact_folder, current_version, verify
from servepath.artifacts.spec import Spec

FORMAT = "reference"
FILE = "reference.safetensors"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's contract and what to predict, in groups of arrays by tensor name.

    Of a model by rows, row i of a group's inputs gives row i of its outputs; of any other, a group is one request.
    """

    model: str
    version: int
    spec: Spec
    groups: Sequence[Mapping[str, npt.NDArray[Any]]]

    @property
    def rows(self) -> int:
        """Return the number of rows of the smallest group; 1 where a request has no rows."""
        if not self.spec.by_rows:
            return 1
        return min(len(group[self.spec.inputs[0].name]) for group in self.groups)

    def first_inputs(self) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs of a first request, by name: a row, or where a request has no rows the first group."""
        group = self.groups[0]
        return {t.name: group[t.name][:1] if self.spec.by_rows else group[t.name] for t in self.spec.inputs}

    def computes_as(self, other: "Reference") -> bool:
        """Return whether it asks the same inputs as another, and has its answers within the declared tolerance."""
        if self.spec.inputs != other.spec.inputs or self.spec.outputs != other.spec.outputs or self.rows != other.rows:
            return False
        return len(self.groups) == len(other.groups) and all(
            all(np.array_equal(mine[tensor.name], theirs[tensor.name]) for tensor in self.spec.inputs)
            and all(
                self.spec.tolerance_of(tensor).holds(mine[tensor.name], theirs[tensor.name].astype(np.float64))
                for tensor in self.spec.outputs
            )
            for mine, theirs in zip(self.groups, other.groups, strict=True)
        )


def read_reference(exports: Path, model: str) -> Reference:
    """Read the current reference of a model after checking its hashes. Raises ArtifactError."""
    return _read(exports, model, current_version(exports, model))


def find_reference(exports: Path, model: str, version: int) -> Reference | None:
    """Read the reference of a version likewise, None where there is none. Raises ArtifactError."""
    there = artifact_folder(exports, model, FORMAT, version).is_dir()
    return _read(exports, model, version) if there else None


def _read(exports: Path, model: str, version: int) -> Reference:
    folder = artifact_folder(exports, model, FORMAT, version)
    spec = verify(folder).spec
    return Reference(model, version, spec, load_groups(folder, spec))


def load_groups(folder: Path, spec: Spec) -> Sequence[Mapping[str, npt.NDArray[Any]]]:
    """Read the groups of a reference's folder. Raises ArtifactError when a tensor is missing."""
    arrays: dict[str, npt.NDArray[np.generic]] = load_file(folder / FILE)
    names = [tensor.name for tensor in spec.inputs + spec.outputs]
    groups = []
    for mark in ("", *(f"#{number}" for number in range(1, len(arrays) // max(len(names), 1)))):
        for name in names:
            if name + mark not in arrays:
                raise ArtifactError(f"{folder / FILE} has no tensor {name + mark!r}; remove {folder} and {AGAIN}")
        groups.append({name: arrays[name + mark] for name in names})
    return groups
