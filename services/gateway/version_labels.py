"""What the versions of a model are called: deployments.toml names them, callers ask by them, servers never see them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from servepath.protocols.deployments import Deployment, Deployments, DeploymentsError
from servepath.protocols.errors import ModelNotFound
from servepath.protocols.paths import VersionLabel
from services.gateway.artifacts import Artifacts, ExternalArtifacts


class VersionLabels:
    """The versions that labels stand for, by every name that callers may use."""

    def __init__(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        """`labels`: MODEL or MODEL@STACK -> label -> version."""
        self._labels = labels

    def find(self, name: str, label: str) -> int:
        """Return the version that a label stands for. Raises ModelNotFound."""
        known = self._labels.get(name, {})
        if label not in known:
            text = f"{name} has no version label {label!r}; it has {', '.join(sorted(known)) or 'none'}"
            raise ModelNotFound(text)
        return known[label]


NONE = VersionLabels({})


def labels_of(deployments: Deployments) -> VersionLabels:
    """Return the labels of a deployments file."""
    models = (one for one in deployments.models if one.version_labels)
    return VersionLabels({name: one.version_labels for one in models for name in one.names})


def version_labels(deployment: Deployment) -> tuple[VersionLabel, ...]:
    """Return a model's labels, and percent of the calls for it alone that each gets."""
    weights = deployment.version_weights
    return tuple(
        VersionLabel(label, version, weights.get(label, 0.0)) for label, version in deployment.version_labels.items()
    )


def weighted_versions(deployment: Deployment) -> Iterator[tuple[int, float]]:
    """Yield the versions among which the calls for a model alone are split, and percent; none where they are not."""
    for label, percent in deployment.version_weights.items():
        yield deployment.version_labels[label], percent


def check_exported(deployment: Deployment, artifacts: Mapping[str, Artifacts | ExternalArtifacts], file: Path) -> None:
    """Raise DeploymentsError for a label whose version is not exported for the stacks that are to answer by it.

    artifacts: of every path of the model, by stack.
    """
    if not deployment.version_labels:
        return
    own = {stack: found.look() for stack, found in artifacts.items() if isinstance(found, Artifacts)}
    for label, version in deployment.version_labels.items():
        having = {stack for stack, versions in own.items() if version in versions}
        split = {stack for stack in deployment.called if deployment.version_weights.get(label)}
        if missing := sorted(split - having) or ([] if having else sorted(own) or sorted(artifacts)):
            raise DeploymentsError(
                f"{file}: [models.{deployment.model}.version_labels] {label} is version {version}, which is not "
                f"exported for {', '.join(missing)}; export it, or name another"
            )
