"""The models: a folder each, MODEL/{spec.toml, model.py, training.py, reference.py}. Nothing else knows their names."""

import pkgutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from servepath.artifacts.spec import Spec

Arrays = Mapping[str, NDArray[Any]]

FOLDER = Path(__file__).parent
# The file that training writes, by framework.
WEIGHTS = MappingProxyType({"torch": "weights.safetensors", "keras": "model.keras"})
# Inputs uniform in [-10, 10] are what the tolerance holds for.
INPUT_RANGE = (-10.0, 10.0)


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
    """Read FOLDER/spec.toml. Raises ValueError that names the file and what is wrong."""
    path = folder / "spec.toml"
    if not folder.name.isidentifier():  # it is a package's name, too
        raise ValueError(
            f"{folder}: a model here has a name of letters, digits and _, like my_model; rename the folder"
        )
    try:
        raw = tomllib.loads(path.read_text())
        known = Model(
            framework=raw["framework"],
            builder=f"{__package__}.{folder.name}.model:{raw['builder']}",
            formats=tuple(raw["formats"]),
            spec=Spec.from_dict(raw),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a model's spec ({error!r}); see docs/add-a-model.md") from error
    if known.framework not in WEIGHTS:
        raise ValueError(f"{path}: framework {known.framework!r} is not one of {', '.join(WEIGHTS)}")
    return known


# Read when this is imported, as a table in the source would be: the folders are the table.
MODELS: Mapping[str, Model] = MappingProxyType(
    {path.parent.name: read_model(path.parent) for path in sorted(FOLDER.glob("*/spec.toml"))}
)
