"""A TFLite file as LiteRT runs it: by its signature, or as the graph that it is where it has none.

For export, which proves answers, and for the server, which gives them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ai_edge_litert import __version__
from ai_edge_litert.interpreter import Interpreter

FILE = "model.tflite"
VERSION = str(__version__)
# TensorFlow's name for the signature that callers get where there are several.
SIGNATURE = "serving_default"


class TfliteError(Exception):
    """LiteRT cannot load a file; the text is LiteRT's."""


class TfliteModel:
    """One interpreter. It computes in buffers of its own: for one caller at a time, and not after a call that failed.

    inputs, outputs: LiteRT's details of each tensor (dtype, shape_signature), by the file's names. run: takes arrays by
    name and returns arrays by name, whatever the shapes were before; raises RuntimeError, ValueError for another dtype.
    """

    def __init__(self, file: Path, threads: int = 1) -> None:
        """Load a file. threads: of each run. Raises TfliteError."""
        try:
            interpreter = Interpreter(model_path=str(file), num_threads=threads)
            signatures = interpreter.get_signature_list()
            if signatures:
                runner = interpreter.get_signature_runner(SIGNATURE if SIGNATURE in signatures else min(signatures))
            else:
                runner = _Graph(interpreter)
            self.inputs: Mapping[str, Any] = runner.get_input_details()
            self.outputs: Mapping[str, Any] = runner.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise TfliteError(" ".join(str(error).split())[:300]) from error
        self.run: Callable[..., Mapping[str, Any]] = runner


class _Graph:
    """Does for a file without signatures what LiteRT's runner does for a signature, by the names of the graph."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = _by_name("input", interpreter.get_input_details())
        self._outputs = _by_name("output", interpreter.get_output_details())

    def get_input_details(self) -> Mapping[str, Any]:
        return self._inputs

    def get_output_details(self) -> Mapping[str, Any]:
        return self._outputs

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        for name, values in inputs.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], values.shape)
        self._interpreter.allocate_tensors()
        for name, values in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], values)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(details["index"]) for name, details in self._outputs.items()}


def _by_name(what: str, tensors: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {details["name"]: details for details in tensors}
    if len(found) < len(tensors):
        raise ValueError(f"two of its {what}s have one name, and it has no signature to tell them apart")
    return found
