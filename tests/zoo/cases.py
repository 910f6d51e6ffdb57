"""The cases of onnx.backend.test: a model, requests and the answers that the ONNX project expects."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("simple", "pytorch-converted", "pytorch-operator", "node")


@dataclass(frozen=True)
class Case:
    """requests: (inputs, answers), each in the order of the graph; elements that are no arrays are no tensors."""

    name: str
    model: onnx.ModelProto
    requests: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def inputs(self) -> list[str]:
        """Return the names that a caller fills, in the graph's order."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return [value.name for value in self.model.graph.input if value.name not in weights]

    @property
    def samples(self) -> list[dict[str, np.ndarray]]:
        """Return the requests with their answers; none where one is not made of tensors."""
        outputs = [value.name for value in self.model.graph.output]
        found = []
        for inputs, answers in self.requests:
            if len(inputs) != len(self.inputs) or not all(map(_is_tensor, (*inputs, *answers))):
                return []
            found.append(_by_name(self.inputs, inputs) | _by_name(outputs, answers))
        return found


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _by_name(names: Sequence[str], values: Sequence[Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def cases(kind: str) -> Iterator[Case]:
    """Yield the cases of a kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own arithmetic
        found = load_model_tests(kind=kind)
    for case in found:
        if case.model_dir is None:
            yield Case(case.name, case.model, case.data_sets, case.rtol, case.atol)
        else:
            yield _read(Path(case.model_dir), case)


def _read(folder: Path, case: Any) -> Case:
    model = onnx.load(folder / "model.onnx")
    requests = [
        (_tensors(data, "input", model.graph.input), _tensors(data, "output", model.graph.output))
        for data in sorted(folder.glob("test_data_set_*"))
    ]
    return Case(case.name, model, requests, case.rtol, case.atol)


def _tensors(folder: Path, what: str, values: Any) -> list[Any]:
    """Return the stored tensors, and None for what is stored as something else."""
    found: list[Any] = []
    for number, path in enumerate(sorted(folder.glob(f"{what}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))):
        if number < len(values) and values[number].type.WhichOneof("value") == "tensor_type":
            found.append(numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())))
        else:
            found.append(None)
    return found
