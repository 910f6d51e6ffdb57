"""LiteRT as an Engine.

A call that is alone computes in an interpreter of all cores, others in one of one core each: two of one thread answer
more than two of two threads, which wait for one another (ADR 29). A call of other shapes resizes the one that it gets,
which costs microseconds (0.3 ms with 300 tensors), where another would hold another copy of the weights.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from servepath.artifacts.manifest import read_manifest
from servepath.artifacts.spec import TensorSpec
from servepath.artifacts.tflite import VERSION, TfliteError, TfliteModel
from servepath.cli.cores import usable_cores
from servepath.protocols.arrays import DTYPES, NAMES, Array
from servepath.protocols.types import Tensor
from services.dataplane.engine import EngineError, RunError
from services.oip_server.alone import Alone


class LiteRtEngine:
    """One TFLite file. Thread-safe; LiteRT releases the interpreter lock while it computes."""

    name = "litert"
    version = VERSION
    slow_first_runs = False

    def __init__(self, file: Path, names: Mapping[str, str], threads: int | None = None) -> None:
        """Load `file`. Raises EngineError.

        names: the file's own names of tensors by public ones, where they differ. threads: cores that every run takes,
        in place of one or all.
        """
        self._file = file
        self._names = names
        # Interpreters that no call computes in, by their threads: never more of them than there were calls at once.
        self._cores = threads or usable_cores()
        self._narrow = threads or 1
        self._idle = {width: deque[TfliteModel]() for width in (self._narrow, self._cores)}
        self._idle[self._cores].append(self._load(self._cores))
        self._alone = Alone()

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return the signature's inputs and outputs. Raises EngineError for a type that we do not serve."""
        model = self._idle[self._cores][0]
        return self._specs(model.inputs), self._specs(model.outputs)

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute. Raises RunError when LiteRT refuses something: the size of an open axis, or an element."""
        feed = {self._names.get(tensor.name, tensor.name): _to_array(tensor) for tensor in inputs}
        with self._alone as alone:
            threads = self._cores if alone else self._narrow
            try:
                model = self._idle[threads].pop()
            except IndexError:
                model = self._load(threads)
            try:
                found = model.run(**feed)
            except RuntimeError as error:  # and its interpreter goes: tensors may be half resized
                raise RunError(str(error)) from error
            self._idle[threads].append(model)
        return tuple(_to_tensor(name, found[self._names.get(name, name)]) for name in outputs)

    def _load(self, threads: int) -> TfliteModel:
        try:
            return TfliteModel(self._file, threads)
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


def load(file: Path, threads: int | None = None) -> LiteRtEngine:
    """Load a file under the names that the manifest beside it has. Raises EngineError."""
    return LiteRtEngine(file, read_manifest(file.parent).names, threads)


def _to_array(tensor: Tensor) -> Array:
    return np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)


def _to_tensor(name: str, array: Array) -> Tensor:
    return Tensor(name, NAMES[array.dtype], array.shape, array.tobytes())
