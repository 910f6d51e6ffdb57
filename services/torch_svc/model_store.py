"""TorchServe's model store: a folder of verified copies of the current archives.

The check proves integrity, that these are the bytes the export wrote; it does not prove who wrote them. An archive's
handler is code that TorchServe runs, so anyone who can write to the exports folder can run code here.
"""

import json
import logging
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from servepath.artifacts.manifest import (
    AGAIN,
    ArtifactError,
    Manifest,
    artifact_folder,
    current_version,
    hash_file,
    verify,
)
from servepath.protocols import tuned
from servepath.protocols.stacks import STACKS, Stack
from services.torch_svc.config import STACK

log = logging.getLogger(__name__)
FULL, *REDUCED = STACKS[STACK].in_precisions
DESCRIPTION, CONFIG = "MAR-INF/MANIFEST.json", "MAR-INF/tuned.yaml"
# What TorchServe calls the tuned settings of a model.
CALLED = {
    "workers": ("minWorkers", "maxWorkers"),
    "batch_size": ("batchSize",),
    "max_batch_delay_ms": ("maxBatchDelay",),
}


def fill(exports: Path, store: Path, tuned_folder: Path | None = None) -> dict[str, Manifest]:
    """Copy the current archive of every model that has one to `store`/NAME.mar; return the manifests by that name.

    NAME is the model's, with the path's precision where that is a reduced one. A path's tuned settings go into its
    copy. Raises ArtifactError naming the file when one of full precision is missing, cut or changed, or when there is
    none at all; a reduced one is logged.
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
    found = tuned.in_use(tuned_folder)
    for name in manifests:
        if own := found.get(name if "@" in name else f"{name}@{STACK}"):
            configure(store / f"{name}.mar", own.settings)
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


def configure(archive: Path, settings: Mapping[str, int]) -> None:
    """Write settings into an archive: into a file below MAR-INF, so that its artifact stays what it was."""
    wanted = {theirs: settings[name] for name, names in CALLED.items() if name in settings for theirs in names}
    if not wanted:
        return
    configured = archive.with_suffix(".configured")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(configured, "w", zipfile.ZIP_DEFLATED) as target:
        described = json.loads(source.read(DESCRIPTION))
        own = described["model"].get("configFile", "")
        before = (yaml.safe_load(source.read(own)) if own in source.namelist() else None) or {}
        described["model"]["configFile"] = CONFIG
        for entry in source.infolist():
            if entry.filename not in {DESCRIPTION, CONFIG}:
                # In pieces, and packed or not as it is: weights may be gigabytes.
                with source.open(entry) as content, target.open(_like(entry), "w") as copied:
                    shutil.copyfileobj(content, copied)
        target.writestr(DESCRIPTION, json.dumps(described))
        target.writestr(CONFIG, yaml.safe_dump(before | wanted))
    configured.replace(archive)


def _like(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return a new entry of the same name, way of packing and size, without what says where the old one is."""
    new = zipfile.ZipInfo(entry.filename, entry.date_time)
    new.compress_type, new.external_attr, new.file_size = entry.compress_type, entry.external_attr, entry.file_size
    return new
