"""What training left: one model's weights by name, its contract, and the reference computed from both."""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from export.errors import ExportError
from models.registry import Arrays, Model, read_models
from servepath.artifacts.spec import Spec, read_spec


@dataclass(frozen=True, slots=True)
class Trained:
    """One trained model. weights: every variable's value by its name in the weights file at `path`."""

    name: str
    path: Path
    spec: Spec
    weights: Arrays

    @property
    def model(self) -> Model:
        """Return the model's entry in the registry."""
        return read_models()[self.name]

    def reference(self, inputs: Arrays) -> Arrays:
        """Return the float64 answers to inputs by name."""
        return self.model.reference(self.weights, inputs)


def read(models: Path, name: str) -> Trained:
    """Read MODELS/NAME. Raises ExportError when the model has not been trained or a file is not what it should be."""
    folder = models / name
    path = folder / read_models()[name].weights
    try:
        return Trained(name, path, read_spec(folder / "spec.json"), READERS[path.suffix](path))
    except FileNotFoundError as error:
        raise ExportError(f"{error.filename} is missing: {name} has not been trained; run: make train") from error
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise ExportError(f"{folder} is not a trained {name} ({error}); run: make train") from error


def _read_keras(path: Path) -> dict[str, NDArray[Any]]:
    """Read the layers' variables of a .keras file, without Keras: its import takes seconds."""
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file["layers"].visititems(
            lambda name, item: found.update({f"layers/{name}": item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return found


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(values) for name, values in safetensors.numpy.load(path.read_bytes()).items()}


READERS: Mapping[str, Callable[[Path], dict[str, NDArray[Any]]]] = MappingProxyType(
    {".safetensors": _read_safetensors, ".keras": _read_keras}
)
