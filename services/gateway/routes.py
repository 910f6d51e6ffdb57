"""What a deployments file comes to: every path, every name that callers may use, and what takes the calls of each."""

from collections.abc import Mapping
from dataclasses import dataclass

from servepath.artifacts.text import TextForm
from servepath.protocols.deployments import Deployments, PathLimits
from servepath.protocols.external import ExternalModel
from servepath.protocols.signature import Signature
from servepath.protocols.stacks import Stack
from services.dataplane.backend import Backend
from services.gateway.artifacts import Artifacts, ExternalArtifacts
from services.gateway.replicas import ReplicaSet
from services.gateway.text import Translators
from services.gateway.verdicts import Shadows
from services.gateway.version_labels import VersionLabels, labels_of


@dataclass(frozen=True, slots=True)
class Origin:
    """What a path is built from; one that has not changed is kept."""

    limits: PathLimits
    external: ExternalModel | None
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """One deployment path.

    server: the stack. chain: takes its calls. text: how it takes texts, where it does.
    """

    model: str
    stack: str
    origin: Origin
    artifacts: Artifacts | ExternalArtifacts
    signature: Signature
    replicas: ReplicaSet
    translators: Translators
    chain: Backend
    server: Stack
    text: TextForm | None = None

    @property
    def name(self) -> str:
        """Return MODEL@STACK."""
        return f"{self.model}@{self.stack}"


@dataclass(frozen=True, slots=True)
class Routes:
    """Every path, every name that callers may use and its path, and what takes the calls of each name."""

    deployments: Deployments
    paths: Mapping[tuple[str, str], Path]
    names: Mapping[str, Path]
    chains: Mapping[str, Backend]
    shadows: Shadows

    def of(self, model: str) -> list[Path]:
        """Return a model's paths in the file's order."""
        return [path for (name, _), path in self.paths.items() if name == model]

    @property
    def version_labels(self) -> VersionLabels:
        """Return what callers may call versions."""
        return labels_of(self.deployments)

    @property
    def labels(self) -> dict[str, tuple[str, str]]:
        """Return the model and stack that calls of each name count for."""
        return {name: (path.model, path.stack) for name, path in self.names.items()}
