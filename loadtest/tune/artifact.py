"""Which artifact a path is tuned for: all trials of a search have the one that was current when it began."""

from pathlib import Path

import pyarrow as pa

from loadtest.plan import ServingPath
from loadtest.run import RunError
from servepath.artifacts.manifest import artifact_folder, current_version, read_manifest
from servepath.protocols.stacks import PATH_STACKS


def current_sha256(exports: Path, path: ServingPath) -> str:
    """Return the hash of a path's current artifact. Raises ArtifactError."""
    artifact_format, version = PATH_STACKS[path.stack].artifact_format, current_version(exports, path.model)
    return read_manifest(artifact_folder(exports, path.model, artifact_format, version)).sha256


def refuse_other(table: pa.Table, path: ServingPath, sha256: str) -> None:
    """Raise RunError where rows have answers of another artifact of a path than that one; a failed request has none."""
    others = set(table["sha256"].unique().to_pylist()) - {"", sha256}
    if others:
        raise RunError(
            f"{path} answers from another artifact ({min(others)[:12]}) than at the start ({sha256[:12]}): the model "
            "was exported meanwhile; give the same command again"
        )
