"""LiteRT as an Engine.

There is one interpreter for each call that computes at once. A call of other shapes resizes the one that it gets, which
costs microseconds (0.3 ms with 300 tensors), where another interpreter would hold another copy of the weights.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from servepath.artifacts.manifest import read_manifest
from servepath.artifacts.spec import TensorSpec
from servepath.artifacts.tflite import VERSION, TfliteError, TfliteModel
from servepath.protocols.arrays import DTYPES, NAMES, Array
from servepath.protocols.types import Tensor
from services.dataplane.engine import EngineError, RunError


class LiteRtEngine:
    """One TFLite file. Thread-safe; LiteRT releases the interpreter lock while it computes."""

    name = "litert"
    version = VERSION
    precision = "fp32"

    def __init__(self, file: Path, names: Mapping[str, str]) -> None:
        """Load `file`. names: the file's own names of tensors by public ones, where they differ. Raises EngineError."""
        self._file = file
        self._names = names
        # Those that no call computes in: never more than there were calls at once.
        self._idle = deque([self._load()])

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return the signature's inputs and outputs. Raises EngineError for a type that we do not serve."""
        model = self._idle[0]
        return self._specs(model.inputs), self._specs(model.outputs)

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute. Raises RunError when LiteRT refuses something: the size of an open axis, or an element."""
        feed = {self._names.get(tensor.name, tensor.name): _to_array(tensor) for tensor in inputs}
        try:
            model = self._idle.pop()
        except IndexError:
            model = self._load()
        try:
            found = model.run(**feed)
        except RuntimeError as error:  # and its interpreter goes: tensors may be half resized
            raise RunError(str(error)) from error
        self._idle.append(model)
        return tuple(_to_tensor(name, found[self._names.get(name, name)]) for name in outputs)

    def _load(self) -> TfliteModel:
        try:
            return TfliteModel(self._file)
        except TfliteError as error:
            raise EngineError(f"{self._file}: LiteRT cannot load it ({error}); import the model again") from error

    def _specs(self, tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        public = {own: name for name, own in self._names.items()}
        return tuple(self._spec(public.get(own, own), details) for own, details in tensors.items())

    def _spec(self, name: str, details: Mapping[str, Any]) -> TensorSpec:
        kind = np.dtype(details["dtype"])
        if kind not in NAMES:
            raise EngineError(f"{self._file}: {name!r} is a {kind.name}, which this server does not support")
        return TensorSpec(name, NAMES[kind], tuple(map(int, details["shape_signature"])))


def load(file: Path) -> LiteRtEngine:
    """Load a file under the names that the manifest beside it has. Raises EngineError."""
    return LiteRtEngine(file, read_manifest(file.parent).names)


def _to_array(tensor: Tensor) -> Array:
    return np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)


def _to_tensor(name: str, array: Array) -> Tensor:
    return Tensor(name, NAMES[array.dtype], array.shape, array.tobytes())
