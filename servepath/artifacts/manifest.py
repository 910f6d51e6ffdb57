"""The manifest beside every artifact: what it is, what it hashes to, and how well it agreed with the reference.

Layout: EXPORTS/MODEL/FORMAT/VERSION/{files, manifest.json}; EXPORTS/MODEL/current holds the version served by default.
A matching hash proves integrity (these are the bytes that the export wrote), not authorship: nothing is signed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.artifacts.spec import Spec

MANIFEST = "manifest.json"
SCHEMA = 1
# What there is to do about an artifact that is missing or not what it should be.
AGAIN = "run: make export or make import"
# Name, size, inode and time of change of each file.
Snapshot = frozenset[tuple[str, int, int, int]]


class ArtifactError(Exception):
    """An artifact is missing, cut, changed or not ours; the text names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How the artifact compared with the float64 reference on seeded inputs."""

    inputs: int
    batch_sizes: tuple[int, ...]
    max_abs_difference: float
    batch_equals_singles: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """One artifact: one model in one format at one version.

    files: sha256 of every file in the folder. contents: sha256 of what is served; the members of an archive, else the
    files. sha256: digest of contents, the artifact's identity. source: fingerprint of weights, spec and exporter.
    probe: inputs that the model answers, by name, as {"shape", "data": base64}; none where zeros will do. names: of
    tensors in the file itself, by those of the spec, where they differ.
    """

    model: str
    format: str
    version: int
    spec: Spec
    files: Mapping[str, str]
    contents: Mapping[str, str]
    sha256: str
    source: str
    tools: Mapping[str, str]
    git_commit: str
    parity: Parity
    probe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read the form that `to_dict` gives. Raises KeyError, TypeError or ValueError."""
        if raw["schema"] != SCHEMA:
            raise ValueError(f"schema {raw['schema']}, this code reads {SCHEMA}")
        parity = raw["parity"]
        return cls(
            model=str(raw["model"]),
            format=str(raw["format"]),
            version=int(raw["version"]),
            files=dict(raw["files"]),
            contents=dict(raw["contents"]),
            sha256=str(raw["sha256"]),
            source=str(raw["source"]),
            tools=dict(raw["tools"]),
            git_commit=str(raw["git_commit"]),
            spec=Spec.from_dict(raw["spec"]),
            parity=Parity(**{**parity, "batch_sizes": tuple(parity["batch_sizes"])}),
            probe=dict(raw.get("probe", {})),
            names=dict(raw.get("names", {})),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema": SCHEMA, **asdict(self)}


def digest(contents: Mapping[str, str]) -> str:
    """Return the sha256 of a set of hashed files: of the lines `HASH  NAME` that sha256sum prints, sorted by name."""
    lines = "".join(f"{contents[name]}  {name}\n" for name in sorted(contents))
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file under `folder` but the manifest, by its relative name."""
    return {name: hash_file(path) for name, path in list_files(folder).items()}


def list_files(folder: Path) -> dict[str, Path]:
    """Return every file under `folder` but the manifest, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): path for path in files}


def snapshot(folder: Path) -> Snapshot:
    """Return what a folder holds, as far as that shows without reading it. Raises OSError where a file goes away."""
    files = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return frozenset((str(path), stat.st_size, stat.st_ino, stat.st_ctime_ns) for path, stat in files)


def hash_file(path: Path) -> str:
    """Return a file's sha256 in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_folder(exports: Path, model: str, artifact_format: str, version: int) -> Path:
    """Return the folder of one artifact; it need not exist. Raises ArtifactError for a name that no model may have."""
    _check_name(exports, model)
    return exports / model / artifact_format / str(version)


def current_version(exports: Path, model: str) -> int:
    """Return the version served by default.

    Raises ArtifactError for a model never exported, or with no model's name.
    """
    _check_name(exports, model)
    path = exports / model / "current"
    try:
        return int(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing: {model} has not been exported; {AGAIN}") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{path} does not hold a version number; {AGAIN}") from error


def _check_name(exports: Path, model: str) -> None:
    try:
        check_model_name(model)
    except ModelNameError as error:
        raise ArtifactError(f"{exports / model}: {error}, and remove this folder if there is one") from error


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an artifact's folder. Raises ArtifactError when it is missing or is not one."""
    path = folder / MANIFEST
    try:
        return Manifest.from_dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing; {AGAIN}") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        # Not repr(error): that of a UnicodeDecodeError holds the whole file.
        why = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{path} is not a manifest ({why}); remove {folder} and {AGAIN}") from error


def any_manifest(exports: Path, model: str) -> Manifest:
    """Return the manifest of a model's current version in the first format that has one. Raises ArtifactError."""
    version = current_version(exports, model)
    for path in sorted((exports / model).glob(f"[!.]*/{version}/{MANIFEST}")):
        return read_manifest(path.parent)
    raise ArtifactError(f"{exports / model}: version {version} is in no format; {AGAIN}")


def verify(folder: Path) -> Manifest:
    """Read the manifest and check every file against it.

    Raises ArtifactError naming the first file that is missing, added or changed.
    """
    manifest = read_manifest(folder)
    found = list_files(folder)
    # Names first: a folder that is still being copied is told apart without reading what is there of it.
    for name in sorted(manifest.files.keys() | found.keys()):
        if name not in found:
            raise ArtifactError(f"{folder / name} is missing; remove {folder} and {AGAIN}")
        if name not in manifest.files:
            raise ArtifactError(f"{folder / name} is not in the manifest; remove {folder} and {AGAIN}")
    for name, path in found.items():
        if hash_file(path) != manifest.files[name]:
            raise ArtifactError(f"{path} does not match its manifest; remove {folder} and {AGAIN}")
    if digest(manifest.contents) != manifest.sha256:
        raise ArtifactError(f"{folder / MANIFEST}: sha256 is not that of contents; remove {folder} and {AGAIN}")
    return manifest
