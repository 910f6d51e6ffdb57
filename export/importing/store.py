"""What an import found, into the store: one version, all its formats, then `current`."""

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import provenance
from export.importing.errors import Refused
from export.stage import LOCK, alone, choose_version, make_current, note_written
from servepath.artifacts.atomic import new_folder
from servepath.artifacts.commit import git_commit
from servepath.artifacts.manifest import (
    MANIFEST,
    Manifest,
    Parity,
    artifact_folder,
    digest,
    hash_files,
    verify,
)
from servepath.artifacts.reference import FORMAT as REFERENCE
from servepath.artifacts.reference import load_groups
from servepath.artifacts.spec import Spec
from servepath.artifacts.text import FORMAT as TEXT
from servepath.cli.locked import Held, locked
from servepath.cli.signals import block_signals
from servepath.protocols.stacks import STACKS

# The inputs that a probe sends are in every manifest, so they have a bound.
PROBE_BYTES = 2**22
ARCHIVES = frozenset(stack.artifact_format for stack in STACKS["torchserve"].in_precisions)
# What a step of an import found, beside the folders of its formats.
FOUND = "found.json"
# Distributions that shape what every import writes.
TOOLS = ("numpy", "onnx", "onnxruntime-gpu", "safetensors")
# What of this repository does.
SOURCES = (
    "export/*.py",
    "export/importing/*.py",
    "export/stablehlo/*.py",
    "models/frameworks.py",
    "servepath/artifacts/tflite.py",
)
# An import's own folder in the store. A new one may not be held yet.
WORK, NEW_S = ".import-", 60.0


@contextlib.contextmanager
def work_folder(exports: Path) -> Iterator[Path]:
    """Yield a new folder for the files of one import, and remove it at the end, with those that killed ones left.

    It is on the store's disk, two levels down, since services look for MODEL/FORMAT. Raises OSError.
    """
    exports = exports.resolve()
    made = [folder for folder in (exports, *exports.parents) if not folder.exists()]
    folder: Path | None = None
    try:
        with block_signals():  # in between, Ctrl-C would leave a folder that nobody knows
            exports.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=exports, prefix=WORK))
        _remove_leftovers(exports)
        with locked(folder / LOCK):
            (folder / "work").mkdir()
            yield folder / "work"
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # where something was written
            for each in made:
                each.rmdir()


def _remove_leftovers(exports: Path) -> None:
    for folder in exports.glob(f"{WORK}*"):
        with contextlib.suppress(OSError, Held):
            if time.time() - folder.stat().st_mtime > NEW_S:
                with locked(folder / LOCK):
                    shutil.rmtree(folder)


def fingerprint(files: Iterable[Path], tools: Sequence[str] = TOOLS) -> str:
    """Return a sha256 that changes when a file that an import reads changes, or the tools or the code that read it."""
    hashed = hashlib.sha256(json.dumps(provenance.versions(tools), sort_keys=True).encode())
    own = (file for pattern in SOURCES for file in sorted(provenance.ROOT.glob(pattern)))
    for file in (*own, *files):
        with file.open("rb") as opened:
            hashed.update(hashlib.file_digest(opened, "sha256").digest())
    return hashed.hexdigest()


def store(
    exports: Path, name: str, source: str, work: Path, tools: Sequence[str] = TOOLS, *, trusted: bool = False
) -> tuple[int, list[str]]:
    """Write every format of WORK that is not there yet; return the version and the formats that were written.

    trusted: code of the source was allowed to run, which the manifests record.
    Raises ExportError, ArtifactError, OSError; a model that was not there before then leaves nothing.
    """
    found = json.loads((work / FOUND).read_text())
    found["probe"] = _probe(work, Spec.from_dict(found["spec"]))
    beside = [each for each in (REFERENCE, TEXT) if (work / each).is_dir()]
    # First, since a server may answer as soon as its own format is there.
    plain = {each: {"facts": {}, "difference": 0.0, "names": {}} for each in beside}
    folder, formats = exports / name, {**plain, **found["formats"]}
    with alone(folder), _kept_if_known(folder):
        version = choose_version(folder, source)
        facts = provenance.versions(tools) | ({"code": "trusted"} if trusted else {})
        draft = _Draft(name, source, version, facts, found)
        written = []
        for artifact_format, made in formats.items():
            target = artifact_folder(exports, name, artifact_format, version)
            if target.exists():
                verify(target)
                note_written(folder, version, artifact_format)  # an import may have been killed before it did
                continue
            with new_folder(target) as new:
                spec = Spec.from_dict(made["spec"]) if "spec" in made else draft.spec
                contents = draft.fill(artifact_format, new, work / artifact_format, spec)
                manifest = draft.manifest(artifact_format, new, made, contents, spec)
                (new / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n")
            note_written(folder, version, artifact_format)
            written.append(artifact_format)
        make_current(exports, name, version)
        return version, written


@contextlib.contextmanager
def _kept_if_known(folder: Path) -> Iterator[None]:
    """Remove a model's folder, which we hold, when the block fails and the model was not there before."""
    known = any(each.name != LOCK for each in folder.iterdir())
    try:
        yield
    except BaseException:
        if not known:
            shutil.rmtree(folder, ignore_errors=True)
        raise


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the manifests of one import share."""

    model: str
    source: str
    version: int
    facts: Mapping[str, str]
    found: Mapping[str, Any]

    @property
    def spec(self) -> Spec:
        """Return what the model takes and answers."""
        return Spec.from_dict(self.found["spec"])

    def fill(self, artifact_format: str, folder: Path, files: Path, spec: Spec) -> Mapping[str, str]:
        """Write what a format is of the files that a step wrote; return the sha256 of what is served, by name.

        An .mar is packed now, since the version is inside it.
        """
        if artifact_format not in ARCHIVES:
            shutil.copytree(files, folder, dirs_exist_ok=True)
            return hash_files(folder)
        from export import mar  # noqa: PLC0415 - of the packages that it imports no other format has need

        mar.pack(self.model, self.version, spec, sorted(files.iterdir()), folder)
        return mar.contents(folder)

    def manifest(
        self, artifact_format: str, folder: Path, made: Mapping[str, Any], contents: Mapping[str, str], spec: Spec
    ) -> Manifest:
        """Return the manifest of the files in a folder."""
        files = hash_files(folder)
        batches = self.found["batches"] if spec.row_independent == self.spec.row_independent else (1,)
        return Manifest(
            model=self.model,
            format=artifact_format,
            version=self.version,
            spec=spec,
            files=files,
            contents=contents,
            sha256=digest(contents),
            source=self.source,
            tools={**self.facts, **made["facts"]},
            git_commit=git_commit(),
            parity=Parity(self.found["rows"], tuple(batches), made["difference"], spec.row_independent),
            probe=self.found["probe"],
            names=made["names"],
        )


def _probe(work: Path, spec: Spec) -> dict[str, dict[str, Any]]:
    """Return the first request of the reference as a manifest has it. Raises Refused for one that is too large."""
    group = load_groups(work / REFERENCE, spec)[0]
    arrays = {t.name: np.asarray(group[t.name][:1] if spec.by_rows else group[t.name], order="C") for t in spec.inputs}
    size = sum(array.nbytes for array in arrays.values())
    if size > PROBE_BYTES:
        raise Refused(
            f"the smallest request that was tried has {size:,} bytes, a probe has at most {PROBE_BYTES:,}; say smaller "
            "[sizes], or a smaller sample, in a spec file (--spec)"
        )
    return {n: {"shape": list(a.shape), "data": b64encode(a.tobytes()).decode()} for n, a in arrays.items()}
