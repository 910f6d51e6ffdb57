"""TorchServe's model store: a folder of verified copies of the current archives.

The check proves integrity, that these are the bytes the export wrote; it does not prove who wrote them. An archive's
handler is code that TorchServe runs, so anyone who can write to the exports folder can run code here.
"""

import logging
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
from servepath.protocols.stacks import STACKS, Stack

log = logging.getLogger(__name__)
FULL, *REDUCED = STACKS["torchserve"].in_precisions


def fill(exports: Path, store: Path) -> dict[str, Manifest]:
    """Copy the current archive of every model that has one to `store`/NAME.mar; return the manifests by that name.

    NAME is the model's, with the path's precision where that is a reduced one. Raises ArtifactError naming the file
    when one of full precision is missing, cut or changed, or when there is none at all; a reduced one is logged.
    """
    manifests = {model: _copy(exports, model, FULL, store) for model in _having(exports, FULL)}
    if not manifests:
        raise ArtifactError(f"{exports} holds no model in the format {FULL.artifact_format}; {AGAIN}")
    for stack in REDUCED:
        for model in _having(exports, stack):
            try:
                manifests[stack.name_of(model)] = _copy(exports, model, stack, store)
            except ArtifactError as error:
                log.error("%s is not served before another start: %s", stack.name_of(model), error)  # noqa: TRY400 - all is said
    return manifests


def _having(exports: Path, stack: Stack) -> list[str]:
    return sorted(folder.parent.name for folder in exports.glob(f"*/{stack.artifact_format}") if folder.is_dir())


def _copy(exports: Path, model: str, stack: Stack, store: Path) -> Manifest:
    folder = artifact_folder(exports, model, stack.artifact_format, current_version(exports, model))
    manifest = verify(folder)
    name = f"{model}.mar"
    if name not in manifest.files:
        raise ArtifactError(f"{folder} holds no {name}; remove it and {AGAIN}")
    copy = store / f"{stack.name_of(model)}.mar"
    shutil.copyfile(folder / name, copy)
    if hash_file(copy) != manifest.files[name]:  # changed since, or the disk is full
        raise ArtifactError(f"{copy} does not match {folder}'s manifest; restart torch_svc")
    return manifest
