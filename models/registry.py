"""The models: a folder each, MODEL/{spec.toml, model.py, training.py, reference.py}. Nothing else knows their names."""

import pkgutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.artifacts.spec import Spec

Arrays = Mapping[str, NDArray[Any]]

FOLDER = Path(__file__).parent
# The file that training writes, by framework.
WEIGHTS = MappingProxyType({"torch": "weights.safetensors", "keras": "model.keras"})
# Inputs uniform in [-10, 10] are what the tolerance holds for.
INPUT_RANGE = (-10.0, 10.0)


class SpecError(ValueError):
    """A model's folder cannot be used; the text names the file, what is wrong and the fix."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    framework: key of the tables of training and export. builder: "models.NAME.model:callable", named and not imported,
    since importing it imports the framework.
    """

    framework: str
    builder: str
    formats: tuple[str, ...]
    spec: Spec

    @property
    def weights(self) -> str:
        """Return the name of the file that training writes."""
        return WEIGHTS[self.framework]

    def build(self) -> Any:
        """Return the framework's model with fresh weights."""
        return pkgutil.resolve_name(self.builder)()

    def training(self) -> Any:
        """Return the module that has INPUTS and TARGETS [rows, ...] and initial_weights(seed)."""
        return pkgutil.resolve_name(f"{self._package}.training")

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """Return the float64 answers, of weights by their names in the weights file and inputs by name."""
        answers: Arrays = pkgutil.resolve_name(f"{self._package}.reference:answer")(weights, inputs)
        return answers

    @property
    def _package(self) -> str:
        return self.builder.partition(":")[0].rpartition(".")[0]


def read_model(folder: Path) -> Model:
    """Read FOLDER/spec.toml. Raises SpecError."""
    path = folder / "spec.toml"
    if not folder.name.isidentifier():  # it is a package's name, too
        raise SpecError(f"{folder}: a model here has a name of letters, digits and _, like my_model; rename the folder")
    try:
        check_model_name(folder.name)
    except ModelNameError as error:
        raise SpecError(f"{folder}: {error}") from error
    try:
        raw = tomllib.loads(path.read_text())
        known = Model(
            framework=raw["framework"],
            builder=f"{__package__}.{folder.name}.model:{raw['builder']}",
            formats=tuple(raw["formats"]),
            spec=Spec.from_dict(raw),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise SpecError(f"{path} is not a model's spec ({error!r}); see docs/add-a-model.md") from error
    if not known.spec.by_rows or any(isinstance(axis, str) for t in known.spec.inputs for axis in t.shape[1:]):
        raise SpecError(f"{path}: -1 must be the first axis of every tensor, and an input has no other open one")
    if known.framework not in WEIGHTS:
        raise SpecError(f"{path}: framework {known.framework!r} is not one of {', '.join(WEIGHTS)}")
    return known


@cache
def read_models(folder: Path = FOLDER) -> Mapping[str, Model]:
    """Return the models of FOLDER by name, read once. Raises SpecError."""
    return MappingProxyType({path.parent.name: read_model(path.parent) for path in sorted(folder.glob("*/spec.toml"))})
