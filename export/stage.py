"""Export one model in all its formats under one version, and make that version the current one."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from export import parity, provenance
from export.errors import ExportError
from export.formats import FORMATS
from export.trained import Trained
from store.atomic import new_folder, write_file
from store.commit import git_commit
from store.manifest import MANIFEST, Manifest, artefact_folder, digest, hash_files, read_manifest, verify


def export_model(trained: Trained, exports: Path) -> Sequence[Manifest]:
    """Export what is missing and give the manifests of what was written; none when all is there and whole.

    A version is complete when all its formats lie at their final names; only then does `current` move. A killed export
    leaves `current` as it was, and the next one goes on where it ended. Raises ExportError, ArtefactError, OSError.
    """
    folder = exports / trained.name
    with _alone(folder):
        version = choose_version(folder, provenance.fingerprint(trained))
        written = []
        for artefact_format in trained.model.formats:
            if (artefact := artefact_folder(exports, trained.name, artefact_format, version)).exists():
                verify(artefact)
            else:
                written.append(export_format(trained, artefact_format, exports, version))
        make_current(exports, trained.name, version)
        return written


def export_format(trained: Trained, artefact_format: str, exports: Path, version: int) -> Manifest:
    """Write one artefact, prove it, and move it to its final name; `current` stays.

    Raises ParityError beyond the tolerance, ExportError for all else, such as an artefact that is already there.
    """
    try:
        with new_folder(artefact_folder(exports, trained.name, artefact_format, version)) as folder:
            return _fill(folder, trained, artefact_format, version)
    except ExportError:
        raise
    except Exception as error:  # frameworks raise kinds of their own, even for a full disk
        said = next(iter(str(error).splitlines()), "")
        raise ExportError(
            f"{trained.name} as {artefact_format}, version {version}: {type(error).__name__}: {said}; nothing was kept"
        ) from error


def _fill(folder: Path, trained: Trained, artefact_format: str, version: int) -> Manifest:
    made = FORMATS[trained.model.framework, artefact_format]
    exporter = made.exporter()
    facts = exporter.write(trained, folder, version)
    contents = exporter.contents(folder)
    manifest = Manifest(
        model=trained.name,
        format=artefact_format,
        version=version,
        spec=trained.spec,
        files=hash_files(folder),
        contents=contents,
        sha256=digest(contents),
        source=provenance.fingerprint(trained),
        tools={**provenance.versions(made.tools), **facts},
        git_commit=git_commit(),
        parity=parity.check(trained, artefact_format, exporter.load(folder)),
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n")
    return manifest


def make_current(exports: Path, model: str, version: int) -> None:
    """Let MODEL/current name the version."""
    path, text = exports / model / "current", f"{version}\n"
    if not path.exists() or path.read_text() != text:
        write_file(path, text)


def choose_version(folder: Path, source: str) -> int:
    """Give the newest version when all that is there of it was made from `source`, else the next number."""
    found = [path for path in folder.glob("*/*") if path.is_dir() and path.name.isdecimal()]
    newest = max((int(path.name) for path in found), default=0)
    same = [read_manifest(path).source == source for path in found if int(path.name) == newest]
    return newest if same and all(same) else newest + 1


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other exports of the model out, and remove what a killed one left half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"{folder}: another export of {folder.name} is running; wait for its end") from None
        for leftover in folder.glob("*/.[0-9]*.*"):
            shutil.rmtree(leftover)
        yield
