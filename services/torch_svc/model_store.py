"""TorchServe's model store: a folder of verified copies of the current archives.

The check proves integrity, that these are the bytes the export wrote; it does not prove who wrote them. An archive's
handler is code that TorchServe runs, so anyone who can write to the exports folder can run code here.
"""

import shutil
from pathlib import Path

from servepath.artifacts.manifest import (
    AGAIN,
    ArtifactError,
    Manifest,
    artifact_folder,
    current_version,
    hash_file,
    verify,
)
from servepath.protocols.stacks import STACKS

FORMAT = STACKS["torchserve"].artifact_format


def fill(exports: Path, store: Path) -> dict[str, Manifest]:
    """Copy the current archive of every model that has one to `store`/MODEL.mar, and return their manifests by model.

    Raises ArtifactError naming the file when one is missing, cut or changed, or when there is none at all.
    """
    manifests = {folder.parent.name: _copy(exports, folder.parent.name, store) for folder in _with_archives(exports)}
    if not manifests:
        raise ArtifactError(f"{exports} holds no model in the format {FORMAT}; {AGAIN}")
    return manifests


def _with_archives(exports: Path) -> list[Path]:
    return sorted(folder for folder in exports.glob(f"*/{FORMAT}") if folder.is_dir())


def _copy(exports: Path, model: str, store: Path) -> Manifest:
    folder = artifact_folder(exports, model, FORMAT, current_version(exports, model))
    manifest = verify(folder)
    name = f"{model}.{FORMAT}"
    if name not in manifest.files:
        raise ArtifactError(f"{folder} holds no {name}; remove it and {AGAIN}")
    copy = store / name
    shutil.copyfile(folder / name, copy)
    if hash_file(copy) != manifest.files[name]:  # changed since, or the disk is full
        raise ArtifactError(f"{copy} does not match {folder}'s manifest; restart torch_svc")
    return manifest
