"""Export one model in all its formats under one version, and make that version the current one."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from export import parity, provenance
from export.errors import ExportError
from export.formats import FORMATS, formats_here
from export.trained import Trained
from servepath.artifacts.atomic import new_folder, write_file
from servepath.artifacts.commit import git_commit
from servepath.artifacts.manifest import (
    MANIFEST,
    ArtifactError,
    Manifest,
    artifact_folder,
    current_version,
    digest,
    hash_files,
    read_manifest,
    verify,
)
from servepath.cli.locked import Held, locked

# In a model's folder, a line `VERSION FORMAT` for each artifact that was ever written there.
WRITTEN = ".written"
# In a model's folder, the file that who writes there holds.
LOCK = ".lock"


def export_model(trained: Trained, exports: Path, *, new_version: bool = False) -> Sequence[Manifest]:
    """Export what is missing and return the manifests of what was written; none when all is there and whole.

    A version is complete when all its formats lie at their final names; only then does `current` move. A killed export
    leaves `current` as it was, and the next one goes on where it ended. new_version: write the next version although
    nothing has changed. Raises ExportError, ArtifactError, OSError.
    """
    folder = exports / trained.name
    with alone(folder):
        version = choose_version(folder, provenance.fingerprint(trained), new_version=new_version)
        written = []
        for artifact_format in formats_here(trained.model):
            if (artifact := artifact_folder(exports, trained.name, artifact_format, version)).exists():
                verify(artifact)
            else:
                written.append(export_format(trained, artifact_format, exports, version))
            note_written(folder, version, artifact_format)  # of one that is there, too: an export may have been killed
        make_current(exports, trained.name, version)
        return written


def export_format(trained: Trained, artifact_format: str, exports: Path, version: int) -> Manifest:
    """Write one artifact, prove it, and move it to its final name; `current` stays.

    Raises ParityError beyond the tolerance, ExportError for all else, such as an artifact that is already there.
    """
    try:
        with new_folder(artifact_folder(exports, trained.name, artifact_format, version)) as folder:
            return _fill(folder, trained, artifact_format, version)
    except ExportError:
        raise
    except Exception as error:  # frameworks raise kinds of their own, even for a full disk
        said = next(iter(str(error).splitlines()), "")
        raise ExportError(
            f"{trained.name} as {artifact_format}, version {version}: {type(error).__name__}: {said}; nothing was kept"
        ) from error


def _fill(folder: Path, trained: Trained, artifact_format: str, version: int) -> Manifest:
    made = FORMATS[trained.model.framework, artifact_format]
    exporter = made.exporter()
    facts = exporter.write(trained, folder, version)
    contents = exporter.contents(folder)
    manifest = Manifest(
        model=trained.name,
        format=artifact_format,
        version=version,
        spec=trained.spec,
        files=hash_files(folder),
        contents=contents,
        sha256=digest(contents),
        source=provenance.fingerprint(trained),
        tools={**provenance.versions(made.tools), **facts},
        git_commit=git_commit(),
        parity=max(
            (parity.check(trained, artifact_format, predict) for predict in made.load(folder)),
            key=lambda found: found.max_abs_difference,
        ),
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n")
    return manifest


def make_current(exports: Path, model: str, version: int) -> None:
    """Make MODEL/current name the version."""
    path, text = exports / model / "current", f"{version}\n"
    if not path.exists() or path.read_text() != text:
        write_file(path, text)


def choose_version(folder: Path, source: str, *, new_version: bool = False) -> int:
    """Return the newest version when it can be kept or completed, else the next number.

    It can when all that is there of it was made from `source`, and all that was ever written of it is still there. No
    artifact is written a second time under its number: a server that loaded or refused it does not look at it again.
    """
    found = {(int(path.name), path.parent.name): path for path in folder.glob("*/*") if _is_version(path)}
    written = read_written(folder)
    newest = max([_current(folder), *(version for version, _ in found.keys() | written)])
    there = [path for (version, _), path in found.items() if version == newest]
    whole = all(one in found for one in written if one[0] == newest)
    same = all(read_manifest(path).source == source for path in there)
    return newest if there and whole and same and not new_version else newest + 1


def _is_version(path: Path) -> bool:
    return path.is_dir() and path.name.isdecimal()


def read_written(folder: Path) -> set[tuple[int, str]]:
    """Return (version, format) of every artifact that was ever written for a model."""
    try:
        lines = (folder / WRITTEN).read_text().splitlines()
    except FileNotFoundError:
        return set()
    return {(int(version), name) for version, name in (line.split() for line in lines)}


def note_written(folder: Path, version: int, artifact_format: str) -> None:
    """Note that an artifact has been written."""
    before = read_written(folder)
    if (version, artifact_format) in before:
        return
    noted = sorted(before | {(version, artifact_format)})
    write_file(folder / WRITTEN, "".join(f"{number} {name}\n" for number, name in noted))


def _current(folder: Path) -> int:
    """Return the version that `current` names, 0 where there is none."""
    try:
        return current_version(folder.parent, folder.name)
    except ArtifactError:
        return 0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock out other exports of the model, and remove what a killed one left half-written. Raises ExportError."""
    try:
        with locked(folder / LOCK):
            _check_there(folder / LOCK)
            for leftover in folder.glob("*/.[0-9]*.*"):
                shutil.rmtree(leftover)
            yield
    except Held:
        raise ExportError(f"{folder}: another export of {folder.name} is running; wait for its end") from None


def _check_there(lock: Path) -> None:
    """Raise Held when who held the file as we opened it has removed it: the next one makes another."""
    if not lock.exists():
        raise Held(str(lock))
