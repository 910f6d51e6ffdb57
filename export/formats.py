"""The formats: which module writes a framework's models so, and the tools whose versions shape the artifact.

A module gives three functions:
  write(trained, folder, version) -> facts   writes the artifact's files; facts for the manifest, such as the opset
  load(folder) -> predict                    runs the artifact that was written, as its server will
                                             (a format may name more such functions: every way to load it must agree)
  contents(folder) -> hashes                 sha256 of what is served, by name
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from export.parity import Predict
from export.trained import Trained
from models.registry import Model


class Exporter(Protocol):
    """What a format's module offers."""

    def write(self, trained: Trained, folder: Path, version: int) -> Mapping[str, str]:
        """Write the artifact's files into an empty folder; return facts for the manifest."""

    def load(self, folder: Path) -> Predict:
        """Return a function that runs the artifact in the folder."""

    def contents(self, folder: Path) -> dict[str, str]:
        """Return the sha256 of each thing that is served, by name."""


@dataclass(frozen=True, slots=True)
class Format:
    """module: named and not imported, since it imports its framework. tools: distributions. loaders: as `load`.

    extra: of pyproject.toml, of a format that is left out where its tools are not installed.
    """

    module: str
    tools: tuple[str, ...]
    loaders: tuple[str, ...] = ("load",)
    extra: str = ""

    def exporter(self) -> Exporter:
        """Import the module."""
        return cast("Exporter", import_module(self.module))

    def load(self, folder: Path) -> Sequence[Predict]:
        """Return a function for each way to load the artifact in the folder."""
        module = import_module(self.module)
        return [getattr(module, name)(folder) for name in self.loaders]

    def missing(self) -> Sequence[str]:
        """Return the tools that are not installed, none of a format that is never left out."""
        return [tool for tool in self.tools if self.extra and not _installed(tool)]

    def how_to_install(self, missing: Sequence[str]) -> str:
        """Return what to do where tools are missing."""
        return f"it needs {', '.join(missing)}: pip install -c constraints.txt -e '.[{self.extra}]'"


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


# By framework and format.
FORMATS: Mapping[tuple[str, str], Format] = MappingProxyType(
    {
        ("torch", "mar"): Format("export.mar", ("torch", "safetensors", "torch-model-archiver")),
        ("torch", "onnx"): Format("export.torch_onnx", ("torch", "onnx", "onnxscript")),
        ("torch", "stablehlo"): Format(
            "export.stablehlo.exporter", ("torch", "jax", "jaxlib", "flatbuffers", "torchax"), extra="tpu"
        ),
        ("torch", "reference"): Format("export.reference", ("numpy", "safetensors")),
        ("keras", "saved_model"): Format(
            "export.saved_model", ("tensorflow", "keras"), loaders=("load", "load_in_python")
        ),
        ("keras", "onnx"): Format("export.keras_onnx", ("tensorflow", "keras", "tf2onnx", "onnx")),
        ("keras", "tflite"): Format("export.keras_tflite", ("tensorflow", "keras", "ai-edge-litert")),
        ("keras", "stablehlo"): Format(
            "export.stablehlo.exporter", ("keras", "jax", "jaxlib", "flatbuffers"), extra="tpu"
        ),
        ("keras", "reference"): Format("export.reference", ("numpy", "safetensors")),
    }
)


def formats_here(model: Model) -> Sequence[str]:
    """Return the formats of a model that can be written here, in its order."""
    return [name for name in model.formats if not FORMATS[model.framework, name].missing()]
