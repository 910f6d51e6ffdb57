"""Exports folders that hold manifests over placeholder files: enough for a gateway, which never opens an artifact."""

from pathlib import Path

from servepath.artifacts import atomic, manifest
from servepath.artifacts.spec import Spec
from tests.manifests import SPEC, write_manifest


def make_export(
    exports: Path, model: str, artifact_format: str, version: int = 1, spec: Spec = SPEC
) -> manifest.Manifest:
    """Write one version folder with its manifest, make it the current one, and return the manifest."""
    folder = manifest.artifact_folder(exports, model, artifact_format, version)
    with atomic.new_folder(folder) as temporary:
        (temporary / "placeholder").write_text(f"{model} {artifact_format} {version}")
        made = write_manifest(temporary, model, artifact_format, version, spec)
    atomic.write_file(exports / model / "current", str(version))
    return made
