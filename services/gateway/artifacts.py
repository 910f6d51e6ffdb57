"""What the exports folder says about one path: its spec, its versions and their hashes.

Of a path on an external server it says what the model is, and nothing of what that server has loaded.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from servepath.artifacts.manifest import (
    AGAIN,
    ArtifactError,
    Manifest,
    any_manifest,
    artifact_folder,
    current_version,
    read_manifest,
)
from servepath.protocols.errors import BackendBadReply
from servepath.protocols.identity import precision_from
from servepath.protocols.types import Provenance

# A version that a server picks up while running is known here at most this much later.
REFRESH_S = 1.0
# Versions without a manifest that are remembered at once.
MAX_MISSED = 64


class Artifacts:
    """The versions of one model in one format, read from disk when they are first asked for."""

    def __init__(self, exports: Path, model: str, artifact_format: str, clock: Callable[[], float] = monotonic) -> None:
        """Read the current version's manifest. Raises ArtifactError."""
        self._model, self._format = model, artifact_format
        self._folder = exports / model / artifact_format
        current = current_version(exports, model)
        self.current = read_manifest(artifact_folder(exports, model, artifact_format, current))
        if not self._is_ours(self.current, current):
            raise ArtifactError(
                f"{self._folder / str(current)} is another artifact, by its manifest; remove it and {AGAIN}"
            )
        # Also those of versions that are gone from the disk: a server may answer with one that it has loaded.
        self._manifests: dict[int, Manifest] = {current: self.current}
        self._on_disk = frozenset({current})
        self._clock = clock
        self._listed_at = -REFRESH_S
        # Version -> when it was found to have no manifest, or one that is not of what answers.
        self._missed: dict[int, float] = {}

    def find(self, version: int) -> Manifest | None:
        """Return a version's manifest, or None. The folder is listed at most once per REFRESH_S, whatever is asked."""
        if version not in self._manifests and self._clock() - self._listed_at >= REFRESH_S:
            self.look()
        return self._manifests.get(version)

    def find_served(self, version: int) -> Manifest | None:
        """Return the manifest of a version that a server has just answered with, or None.

        Looks at once: a caller who asks for unknown versions must not keep a new one from being known for REFRESH_S.
        """
        if version not in self._manifests:
            self._look_again(version)
        return self._manifests.get(version)

    def _look_again(self, version: int) -> None:
        """Read a manifest, at most once per REFRESH_S: this is the event loop, and the disk may be far away."""
        if self._clock() - self._missed.get(version, -REFRESH_S) >= REFRESH_S:
            self._miss(version)
            self._read(version)

    def promised(self, version: int) -> tuple[int, str]:
        """Return version and hash of what would answer: `version`, or the current one where that has no manifest."""
        manifest = self.find(version) or self.current
        return manifest.version, manifest.sha256

    def identified(self, served: Provenance) -> Provenance:
        """Return an answer's origin, with hash and precision by its manifest where the reply names no artifact.

        Raises BackendBadReply where it is not what a manifest says.
        """
        stack = served.stack
        if not served.version:
            raise BackendBadReply(f"{stack} does not say which version answered, so nobody can say what it is")
        manifest = self.find_served(served.version)
        if manifest is None:
            raise BackendBadReply(f"{stack} answered with version {served.version}, which has no manifest")
        if served.sha256 and served.sha256 != manifest.sha256:
            self._look_again(served.version)  # it may have been exported anew under its number
            manifest = self._manifests[served.version]
        if served.sha256 and served.sha256 != manifest.sha256:
            raise BackendBadReply(f"{stack} serves an artifact other than the one in the manifest")
        if served.sha256:
            return served
        precision = precision_from(served.precision, manifest.spec.precision)
        return served._replace(sha256=manifest.sha256, precision=precision)

    @property
    def versions(self) -> list[int]:
        """Return the versions that are on disk, oldest first."""
        return self.known if self._clock() - self._listed_at < REFRESH_S else self.look()

    @property
    def known(self) -> list[int]:
        """Return the versions that were there when they were listed last; from any thread."""
        return sorted(self._on_disk)

    def look(self) -> list[int]:
        """Return the versions that are on disk at this moment, oldest first."""
        self._listed_at = self._clock()
        folders = self._folder.iterdir() if self._folder.is_dir() else ()
        found = {int(folder.name) for folder in folders if folder.name.isdecimal()}
        for version in found - self._manifests.keys():
            self._read(version)
        self._on_disk = frozenset(found & self._manifests.keys())
        return self.known

    def _miss(self, version: int) -> None:
        if len(self._missed) >= MAX_MISSED:
            self._missed.clear()
        self._missed[version] = self._clock()

    def _read(self, version: int) -> None:
        # Half-made or foreign: its server will refuse it too.
        with contextlib.suppress(ArtifactError, OSError):
            manifest = read_manifest(self._folder / str(version))
            if self._is_ours(manifest, version):
                self._manifests[version] = manifest
                self._on_disk |= {version}

    def _is_ours(self, manifest: Manifest, version: int) -> bool:
        return (manifest.model, manifest.format, manifest.version) == (self._model, self._format, version)


class ExternalArtifacts:
    """Of an external server: its artifacts and their versions are its own, so none of ours stands for one of them."""

    def __init__(self, exports: Path, model: str) -> None:
        """Read the current version's manifest in any format, for what the model is. Raises ArtifactError."""
        self.current = any_manifest(exports, model)
        self.versions: list[int] = []
        self.known: list[int] = []

    def find(self, version: int) -> None:
        """Return None: a caller who asks for a version means one of ours."""

    def find_served(self, version: int) -> None:
        """Return None: no manifest is that of a version of theirs."""

    def promised(self, version: int) -> tuple[int, str]:
        """Return the server's own version and that the hash is unknown."""
        return version, ""

    def identified(self, served: Provenance) -> Provenance:
        """Return the origin as the server says it."""
        return served
