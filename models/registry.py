"""The models: what each is built of, what it promises, and the formats it is exported to."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from models import reference
from models.reference import Arrays
from servepath.artifacts.spec import BATCH, Spec, TensorSpec, Tolerance

# Inputs uniform in [-10, 10] are what the tolerance holds for.
INPUT_RANGE = (-10.0, 10.0)


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    framework: key of the tables of training and export. builder: "module:callable", named and not imported, since
    importing it imports the framework. weights: the file that training writes. reference: the float64 answer.
    """

    framework: str
    builder: str
    weights: str
    formats: tuple[str, ...]
    spec: Spec
    reference: Callable[[Arrays, Arrays], Arrays]

    def build(self) -> Any:
        """Return the framework's model with fresh weights."""
        return pkgutil.resolve_name(self.builder)()


TWO_TO_ONE = Spec(
    inputs=(TensorSpec("x", "FP32", (BATCH, 2)),),
    outputs=(TensorSpec("y", "FP32", (BATCH, 1)),),
    row_independent=True,
    tolerance=Tolerance(rtol=1e-5, atol=1e-5),
)

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "simple_nn": Model(
            framework="torch",
            builder="models.simple_nn:SimpleNN",
            weights="weights.safetensors",
            formats=("mar", "onnx", "reference"),
            spec=TWO_TO_ONE,
            reference=reference.simple_nn,
        ),
        "keras_dense": Model(
            framework="keras",
            builder="models.keras_dense:build",
            weights="model.keras",
            formats=("saved_model", "onnx", "reference"),
            spec=TWO_TO_ONE,
            reference=reference.keras_dense,
        ),
    }
)
